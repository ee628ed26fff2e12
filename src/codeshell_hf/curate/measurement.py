"""Reads a part of the corpus once and writes down all that is measured of it, text included."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .languages import name_language_by_shebang
from .preference import prefer
from .repetition import hash_pieces
from .shingles import shingle, sign
from .signals import Signals, measure
from .sources import Document, Source, Unit, read_unit
from .standards import Standards, lint
from .syntax import Syntax, parse

# Documents are measured together up to so many bytes of text: linters and hashes work on many at once.
BATCH_BYTES = 8_000_000
BATCH_DOCUMENTS = 4_000
_SIGNALS = {
    **dict.fromkeys((field.name for field in fields(Signals)), pa.float32()),
    **dict.fromkeys(
        (
            "lines",
            "longest_line",
            "longest_encoded",
            "visible_bytes",
            "imports",
            "known_imports",
            "words",
            "style_faults",
        ),
        pa.int32(),
    ),
    **dict.fromkeys(("is_generated", "is_scaffold", "is_xml", "parses"), pa.bool_()),
    **dict.fromkeys(("comment_fraction", "string_fraction", "complexity", "preference"), pa.float32()),
    **dict.fromkeys(("functions", "depth", "worst_complexity", "syntax_faults"), pa.int32()),
    **dict.fromkeys(("faults", "security_faults", "shingles", "code_words"), pa.int32()),
}
SIGNAL_NAMES = tuple(_SIGNALS)
SCHEMA = pa.schema(
    [
        ("key", pa.int64()),
        *((name, pa.string()) for name in ("id", "source", "path", "repository", "licence")),
        ("stars", pa.int64()),
        ("bytes", pa.int64()),
        ("language", pa.string()),
        ("reason", pa.string()),
        ("text", pa.large_string()),
        ("digest", pa.string()),
        *_SIGNALS.items(),
        ("bands", pa.list_(pa.uint64())),
        ("pieces", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class Measuring:
    """What is measured.

    Args:
        max_file_bytes: Longer documents fall as "too-large".
        bands: Numbers of each document's MinHash, `None` where near duplicates are not looked for.
        rows: Minima in each.
        pieces: "line" or "paragraph" where repeated ones are looked for, `None` where not.
        min_piece_bytes: Shorter ones are nobody's.
        reads_syntax: Whether tree-sitter parses what it has a grammar for.
        lints: Whether ruff lints Python.
    """

    max_file_bytes: int
    bands: int | None
    rows: int
    pieces: str | None
    min_piece_bytes: int
    reads_syntax: bool
    lints: bool


def measure_part(units: Sequence[Unit], sources: dict[str, Source], options: Measuring, path: Path, index: int) -> None:
    """Reads and measures a part, and writes it to a file that is whole or absent.

    Args:
        units: What the part holds.
        sources: By name.
        options: What is measured.
        path: Where to write: Parquet with the columns of `SCHEMA`, documents in the order of their units.
        index: Number of the part; a document's key is the number and its row in the part, 32 bits each.
    """
    aside = path.with_suffix(".tmp")
    row = index << 32
    with pq.ParquetWriter(aside, SCHEMA, compression="zstd", compression_level=1) as writer:
        for batch in _cut(_read(units, sources, options)):
            rows = measure_batch(batch, options)
            for place, values in enumerate(rows):
                values["key"] = row + place
            row += len(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    aside.replace(path)


def _read(units: Sequence[Unit], sources: dict[str, Source], options: Measuring) -> Iterator[tuple[str, Document]]:
    for unit in units:
        for document in read_unit(sources[unit.source], unit, max_bytes=options.max_file_bytes):
            yield unit.source, document


def _cut(documents: Iterator[tuple[str, Document]]) -> Iterator[list[tuple[str, Document]]]:
    batch: list[tuple[str, Document]] = []
    held = 0
    for named in documents:
        batch.append(named)
        held += len(named[1].content)
        if held >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def measure_batch(batch: Sequence[tuple[str, Document]], options: Measuring) -> list[dict[str, Any]]:
    """Measures documents.

    Args:
        batch: Each with its source's name.
        options: What is measured.

    Returns:
        One row a document, of the columns of `SCHEMA` but `key`; what is not measured is absent.
    """
    rows: list[dict[str, Any]] = []
    readable: list[dict[str, Any]] = []
    contents: list[bytes] = []
    for source, document in batch:
        text, language, reason = decode(document, max_bytes=options.max_file_bytes)
        row: dict[str, Any] = {
            "id": document.id,
            "source": source,
            "path": document.path,
            "repository": document.repository,
            "licence": document.licence,
            "stars": document.stars,
            "bytes": document.size,
            "language": language,
            "reason": reason,
            "text": text,
        }
        rows.append(row)
        if text is not None:
            contents.append(document.content)
            readable.append(row)
    shingles = shingle(contents)
    bands = sign(shingles, bands=options.bands, rows=options.rows) if options.bands else None
    python = [row for row in readable if row["language"] == "python"] if options.lints else []
    found = dict(zip((row["id"] for row in python), lint([row["text"] for row in python]), strict=True))
    counts = np.diff(shingles.offsets)
    for place, (row, content) in enumerate(zip(readable, contents, strict=True)):
        row["digest"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        row.update(vars(measure(row["text"], row["language"])))
        row.update(_values(parse(content, row["language"]) if options.reads_syntax else None, Syntax))
        row.update(_values(found.get(row["id"]), Standards))
        row["shingles"] = int(counts[place])
        row["code_words"] = int(shingles.words[place])
        row["preference"] = prefer(row)
        if bands is not None and counts[place]:
            row["bands"] = bands[place]
        if options.pieces:
            row["pieces"] = hash_pieces(row["text"], options.pieces, min_bytes=options.min_piece_bytes)
    return rows


def _values(found: Any, kind: type[Any]) -> dict[str, Any]:
    return vars(found) if found is not None else dict.fromkeys(field.name for field in fields(kind))


def decode(document: Document, *, max_bytes: int) -> tuple[str | None, str | None, str | None]:
    """Decides whether a document can be read.

    Args:
        document: As its source gives it.
        max_bytes: Longer ones cannot.

    Returns:
        Text, language and `None`; or `None`, the language as far as it is known, and the reason: the source's own, or
        "unknown-language", "too-large", "empty" or "not-text".
    """
    content, language = document.content, document.language or name_language_by_shebang(document.content[:128])
    if document.reason is not None:
        return None, language, document.reason
    if language is None:
        return None, None, "unknown-language"
    if len(content) > max_bytes:
        return None, language, "too-large"
    if not content.strip():
        return None, language, "empty"
    if b"\0" in content:
        return None, language, "not-text"
    try:
        return content.decode("utf-8"), language, None
    except UnicodeDecodeError:
        return None, language, "not-text"
