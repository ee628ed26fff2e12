"""Reads a part of the corpus once, and writes its texts with all that is measured cheaply."""

import hashlib
import logging
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import CodeShellError
from .examination import EXAMINED_SIGNALS, Row, examine
from .languages import refine_language
from .preference_score import Glanced, stand
from .repetition import hash_pieces
from .settings import Measuring, Source
from .shingles import shingle, sign
from .signals import Signals, measure
from .sources import Document, Unit, read_unit
from .text_encodings import UTF_8, decode_text

_logger = logging.getLogger(__name__)
# Documents in a batch have up to so many bytes: linters and hashing are faster on many at once.
BATCH_BYTES = 8_000_000
BATCH_DOCUMENTS = 4_000
# The settings that measurements depend on; others are thresholds, which may change without measuring again.
MEASURED_BY: dict[str, bool | set[str]] = {
    "max_file_bytes": True,
    "near_duplicates": {"bands", "rows"},
    "repeated_text": {"piece", "min_bytes"},
}
# Git LFS keeps large files elsewhere, and this in their place.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
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
    **dict.fromkeys(("is_generated", "is_scaffold", "is_xml"), pa.bool_()),
    **dict.fromkeys(("shingles", "code_words"), pa.int32()),
    "standing": pa.float32(),
}
CHEAP_SIGNALS = tuple(_SIGNALS)
SIGNAL_NAMES = (*CHEAP_SIGNALS, *EXAMINED_SIGNALS)
SCHEMA = pa.schema(
    [
        ("key", pa.int64()),
        *((name, pa.string()) for name in ("id", "source", "path", "repository", "licence", "origin", "version")),
        ("stars", pa.int64()),
        ("bytes", pa.int64()),
        ("language", pa.string()),
        ("reason", pa.string()),
        ("encoding", pa.string()),
        ("text", pa.large_string()),
        ("digest", pa.string()),
        *_SIGNALS.items(),
        ("bands", pa.list_(pa.uint64())),
        ("pieces", pa.list_(pa.int64())),
    ]
)


def measure_part(
    units: Sequence[Unit], sources: Mapping[str, Source], measuring: Measuring, path: Path, index: int
) -> None:
    """Reads and measures a part, and writes it to a file that is complete or absent.

    Args:
        sources: By name.
        path: The Parquet file to write, with the columns of `SCHEMA` and documents in the order of their units.
        index: The part's number; a document's key is this number and its row, 32 bits each.
    """
    temporary = path.with_suffix(".tmp")
    row = index << 32
    with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", compression_level=1) as writer:
        for batch in _batch(_read(units, sources, max_bytes=measuring.max_file_bytes)):
            rows = measure_cheaply(batch, measuring)
            for place, values in enumerate(rows):
                values["key"] = row + place
            row += len(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    temporary.replace(path)


def _read(units: Sequence[Unit], sources: Mapping[str, Source], *, max_bytes: int) -> Iterator[tuple[str, Document]]:
    for unit in units:
        for document in read_unit(sources[unit.source], unit, max_bytes=max_bytes):
            yield unit.source, document


def _batch(documents: Iterator[tuple[str, Document]]) -> Iterator[list[tuple[str, Document]]]:
    batch: list[tuple[str, Document]] = []
    size = 0
    for named in documents:
        batch.append(named)
        size += len(named[1].content)
        if size >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def measure_batch(batch: Sequence[tuple[str, Document]], measuring: Measuring) -> list[Row]:
    """Measures documents, each given with its source's name, and examines all of them; otherwise as `measure_cheaply`.

    Returns:
        One row per document with the columns of `SCHEMA` except `key`, and those of `EXAMINED_SIGNALS`.
    """
    rows = measure_cheaply(batch, measuring)
    readable = [row for row in rows if row["text"] is not None]
    texts = [str(row["text"]) for row in readable]
    for row, found in zip(
        readable, examine(texts, readable, reads_syntax=measuring.reads_syntax, lints=measuring.lints), strict=True
    ):
        row.update(found)
    return rows


def measure_cheaply(batch: Sequence[tuple[str, Document]], measuring: Measuring) -> list[Row]:
    """Measures documents, each given with its source's name.

    A document on which measuring fails has the reason "unmeasured"; the others are measured without it.

    Returns:
        One row per document with the columns of `SCHEMA` except `key`; what is not measured is absent.
    """
    try:
        return _measure_all(batch, measuring)
    except (OSError, ImportError, CodeShellError):
        raise
    except Exception as error:
        if len(batch) > 1:
            half = len(batch) // 2
            return [*measure_cheaply(batch[:half], measuring), *measure_cheaply(batch[half:], measuring)]
        ((source, document),) = batch
        _logger.warning("%s cannot be measured: %s: %s", document.id, type(error).__name__, error)
        return _measure_all([(source, replace(document, content=b"", reason="unmeasured"))], measuring)


def _measure_all(batch: Sequence[tuple[str, Document]], measuring: Measuring) -> list[Row]:
    rows: list[Row] = []
    readable: list[tuple[Row, Document, str, str | None]] = []
    for source, document in batch:
        text, language, reason, encoding = decode(document, max_bytes=measuring.max_file_bytes)
        row: Row = {
            "id": document.id,
            "source": source,
            "path": document.path,
            "repository": document.repository,
            "licence": document.licence,
            "origin": document.origin,
            "version": document.version,
            "stars": document.stars,
            "bytes": document.size,
            "language": language,
            "reason": reason,
            "encoding": encoding,
            "text": text,
        }
        rows.append(row)
        if text is not None:
            if encoding is not None:
                document = replace(document, content=text.encode())  # noqa: PLW2901
            readable.append((row, document, text, language))
    near, repeated = measuring.near_duplicates, measuring.repeated_text
    shingles = shingle([document.content for _, document, _, _ in readable])
    bands = sign(shingles, bands=near.bands, rows=near.rows) if near else None
    counts = np.diff(shingles.offsets)
    for place, (row, document, text, language) in enumerate(readable):
        row["digest"] = hashlib.md5(document.content, usedforsecurity=False).hexdigest()
        row.update(vars(measure(text, language)))
        row["shingles"] = int(counts[place])
        row["code_words"] = int(shingles.words[place])
        row["standing"] = stand(cast(Glanced, row))
        if bands is not None and counts[place]:
            row["bands"] = bands[place]
        if repeated:
            row["pieces"] = hash_pieces(text, repeated.piece, min_bytes=repeated.min_bytes)
    return rows


def decode(document: Document, *, max_bytes: int) -> tuple[str | None, str | None, str | None, str | None]:
    """Decodes a document.

    Returns:
        Text, language, `None`, and the encoding if it is not UTF-8; or `None`, the language if known, and the reason:
        the source's, or "lfs-pointer", "unknown-language", "too-large", "empty" or "not-text".
    """
    content, named = document.content, document.language
    if document.reason is not None:
        return None, named, document.reason, None
    if content.startswith(LFS_POINTER):
        return None, named, "lfs-pointer", None
    if len(content) > max_bytes:
        language = refine_language(document.path, named, content)
        return None, language, "too-large" if language else "unknown-language", None
    text, encoding = decode_text(content) or (None, None)
    utf_8 = content if encoding == UTF_8 or text is None else text.encode()
    language = refine_language(document.path, named, utf_8)
    if language is None:
        return None, None, "unknown-language", None
    if not content.strip():
        return None, language, "empty", None
    if text is None:
        return None, language, "not-text", None
    return (
        text,
        language,
        None,
        None if encoding == UTF_8 and len(text) and not content.startswith(BOM_UTF8) else encoding,
    )
