"""A part of the corpus as workers see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_ROWS = 512


@dataclass(frozen=True)
class Part:
    """A part as workers see it.

    Args:
        index: Its number.
        measured: File with all that was measured.
        codes: File with its documents' verdicts.
        output: File to write.
    """

    index: int
    measured: str
    codes: str
    output: str


def read_kept(part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Reads the documents of a part that are still in.

    Args:
        part: The part.
        columns: What to read.

    Yields:
        Batches of rows.
    """
    codes = np.load(part.codes)
    row = 0
    for batch in pq.ParquetFile(part.measured).iter_batches(_ROWS, columns=list(columns)):
        kept = codes[row : row + len(batch)] == 0
        row += len(batch)
        if kept.any():
            yield batch.filter(pa.array(kept))
