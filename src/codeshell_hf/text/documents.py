"""Reads curated documents from disk, for the later stages."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError

DOCUMENTS = "documents"


class DocumentRow(TypedDict, total=False):
    """The requested columns of a document; signals are columns too, and are not listed here."""

    id: str
    source: str
    path: str
    repository: str | None
    stars: int | None
    language: str
    licence: str | None
    origin: str
    version: str | None
    bytes: int
    text: str
    digest: str
    split: str
    tokens: int
    perplexity: float | None
    quality: float | None
    cluster: str | None
    cluster_size: int


def read_documents(folder: Path, *, split: str | None = None, columns: Sequence[str]) -> Iterator[DocumentRow]:
    """Reads curated documents in order, a part at a time.

    Args:
        folder: The output of `curate`.
        split: "train", "held-out", or `None` for all.
        columns: Fields of `DocumentRow`, or signals.

    Raises:
        DataError: If there are no documents.
    """
    for path in list_parts(folder):
        yield from read_part(path, split=split, columns=columns)


def list_parts(folder: Path) -> list[Path]:
    """Lists the files of curated documents in order; a `DataError` if there are none."""
    paths = sorted((folder / DOCUMENTS).glob("part-*.parquet"))
    if not paths:
        raise DataError(f"{folder} holds no {DOCUMENTS}/part-*.parquet; run codeshell curate first")
    return paths


def read_part(path: Path, *, split: str | None = None, columns: Sequence[str]) -> Iterator[DocumentRow]:
    """Reads one file of curated documents, as `read_documents` does; a `DataError` if it is unreadable."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a Parquet file; run codeshell curate again") from error
    for batch in file.iter_batches(batch_size=512, columns=sorted({*columns, "split"})):
        for row in batch.to_pylist():
            if split is None or row["split"] == split:
                yield cast(DocumentRow, {name: row[name] for name in columns})


def name_repository(address: str) -> str:
    """A short name for a repository: the last two parts of its address.

    >>> name_repository("https://github.com/WisdomShell/codeshell.git")
    'WisdomShell/codeshell'
    """
    parts = [part for part in re.split(r"[/:]", address.removesuffix("/").removesuffix(".git")) if part]
    return "/".join(part for part in parts[-2:] if part not in (".", ".."))
