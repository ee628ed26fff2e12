"""Measures what is dear, syntax and coding standards, of the documents that cheap rules and duplicates leave."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .preference_score import Measured, prefer
from .standards import Standards, lint
from .syntax import Syntax, parse

_logger = logging.getLogger(__name__)
EXAMINED_SIGNALS: dict[str, pa.DataType] = {
    "parses": pa.bool_(),
    **dict.fromkeys(("comment_fraction", "string_fraction", "complexity", "preference"), pa.float32()),
    **dict.fromkeys(("functions", "depth", "worst_complexity", "syntax_faults"), pa.int32()),
    **dict.fromkeys(("faults", "security_faults"), pa.int32()),
}
EXAMINED = pa.schema([("key", pa.int64()), *EXAMINED_SIGNALS.items()])
# What the score of a document needs of its other signals.
_CHEAP = ("language", "lines", "mean_line", "duplicate_line_fraction", "style_faults", "imports", "known_imports")
_ROWS = 512
_ROW = 0xFFFFFFFF
Row = dict[str, object]


class ExamineTask(TypedDict):
    """A worker's task: a measured part, the file with the keys to examine, sorted, and the file to write."""

    measured: str
    wanted: str
    output: str


class ExamineShared(TypedDict):
    """Arguments of all tasks: whether syntax is read, and Python linted."""

    reads_syntax: bool
    lints: bool


def examine_part(task: ExamineTask, shared: ExamineShared) -> None:
    """Examines documents of a part, and writes the columns of `EXAMINED` to a file that is complete or absent."""
    wanted = pa.array(np.load(task["wanted"]))
    output = Path(task["output"])
    temporary = output.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, EXAMINED, compression="zstd", compression_level=1) as writer:
        for batch in pq.ParquetFile(task["measured"]).iter_batches(_ROWS, columns=["key", "text", *_CHEAP]):
            chosen = batch.filter(pc.is_in(batch["key"], wanted))
            if len(chosen):
                rows = chosen.to_pylist()
                found = examine([str(row.pop("text")) for row in rows], rows, **shared)
                named = [{"key": row["key"], **signals} for row, signals in zip(rows, found, strict=True)]
                writer.write_table(pa.Table.from_pylist(named, schema=EXAMINED))
    temporary.replace(output)


class AlignTask(TypedDict):
    """A worker's task: a measured part, the files of its examined documents, and the file to write."""

    measured: str
    examined: list[str]
    output: str


def align_part(task: AlignTask, shared: None) -> None:
    """Writes what was examined of a part in the rows of its measured file; null for documents that were not."""
    rows = pq.read_metadata(task["measured"]).num_rows
    tables = [pq.read_table(path) for path in task["examined"]]
    found = pa.concat_tables([*tables, EXAMINED.empty_table()])
    places = np.full(rows, -1, np.int64)
    places[found["key"].to_numpy() & _ROW] = np.arange(len(found))
    temporary = Path(task["output"]).with_suffix(".tmp")
    pq.write_table(found.take(pa.array(places, mask=places < 0)), temporary, compression="zstd")
    temporary.replace(task["output"])


def examine(
    texts: Sequence[str], rows: Sequence[Mapping[str, object]], *, reads_syntax: bool, lints: bool
) -> list[Row]:
    """Examines documents.

    Args:
        rows: Their language and other signals.

    Returns:
        The columns of `EXAMINED` but the key of each; `None` for what does not apply to its language.
    """
    python = [place for place, row in enumerate(rows) if lints and row["language"] == "python"]
    findings = dict(zip(python, lint([texts[place] for place in python]), strict=True))
    examined: list[Row] = []
    for place, (text, row) in enumerate(zip(texts, rows, strict=True)):
        syntax = _parse(text, cast(str | None, row["language"])) if reads_syntax else None
        found = {**_list_values(syntax, Syntax), **_list_values(findings.get(place), Standards)}
        examined.append({**found, "preference": prefer(cast(Measured, {**row, **found}))})
    return examined


def _parse(text: str, language: str | None) -> Syntax | None:
    try:
        return parse(text.encode("utf-8", "surrogatepass"), language)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        _logger.warning("a document in %s cannot be parsed: %s: %s", language, type(error).__name__, error)
        return None


def _list_values(measured: Syntax | Standards | None, kind: type[Syntax | Standards]) -> Mapping[str, object]:
    return vars(measured) if measured is not None else dict.fromkeys(field.name for field in fields(kind))
