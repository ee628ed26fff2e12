"""A part of the corpus, as workers get it."""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .settings import Piece

_ROWS = 512


class CorpusPart(TypedDict):
    """A part, with its files.

    Args:
        measured: Of all documents.
        examined: Syntax and standards of those that were examined, in the rows of `measured`.
        codes: The documents' verdicts.
        output: To write.
    """

    index: int
    measured: str
    examined: str
    codes: str
    output: str


class Repeated(TypedDict):
    """The pieces to remove: a file with their hashes, their kind, and their minimum length."""

    path: str
    piece: Piece
    min_bytes: int


def read_rows(part: CorpusPart, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Reads columns of all documents of a part, measured or examined; `None` for all columns."""
    names = [name for name in pq.read_schema(part["examined"]).names if name != "key"]
    wanted = names if columns is None else [name for name in columns if name in names]
    others = None if columns is None else [name for name in columns if name not in names]
    examined = pq.read_table(part["examined"], columns=wanted).combine_chunks() if wanted else None
    row = 0
    for batch in pq.ParquetFile(part["measured"]).iter_batches(_ROWS, columns=others):
        if examined is not None:
            for name in wanted:
                values = examined[name].slice(row, len(batch)).combine_chunks()
                batch = batch.append_column(name, values)  # noqa: PLW2901
        row += len(batch)
        yield batch


def read_kept(part: CorpusPart, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Reads the documents of a part that have not been dropped."""
    codes = np.load(part["codes"])
    row = 0
    for batch in read_rows(part, columns):
        kept = codes[row : row + len(batch)] == 0
        row += len(batch)
        if kept.any():
            yield batch.filter(pa.array(kept))
