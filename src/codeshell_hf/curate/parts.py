"""A part of the corpus, as workers get it."""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .settings import Piece

_ROWS = 512


class CorpusPart(TypedDict):
    """A part: `measured` is the file of measurements, `codes` that of the documents' verdicts, `output` is to write."""

    index: int
    measured: str
    codes: str
    output: str


class Repeated(TypedDict):
    """The pieces to remove: a file with their hashes, their kind, and their minimum length."""

    path: str
    piece: Piece
    min_bytes: int


def read_kept(part: CorpusPart, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Reads the documents of a part that have not been dropped."""
    codes = np.load(part["codes"])
    row = 0
    for batch in pq.ParquetFile(part["measured"]).iter_batches(_ROWS, columns=list(columns)):
        kept = codes[row : row + len(batch)] == 0
        row += len(batch)
        if kept.any():
            yield batch.filter(pa.array(kept))
