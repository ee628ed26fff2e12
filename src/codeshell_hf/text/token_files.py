"""Files of token ids in datatrove's form, read as if they lay end to end."""

import mmap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIX, INDEX_SUFFIX, METADATA_SUFFIX = ".ds", ".ds.index", ".ds.metadata"
# A mapping keeps a file open, and a process may often open a thousand.
OPEN_TOGETHER = 256


class TokenFiles:
    """Token files, of which the last that were read stay mapped.

    Args:
        paths: Of the files, none of them empty.
        tokens: How many ids each holds.
        dtype: Of an id.

    Source:
        datatrove 0.10: ids of two or four bytes, little-endian, one after another.
    """

    def __init__(self, paths: Sequence[Path], tokens: Sequence[int], dtype: np.dtype[Any]) -> None:
        self._paths = paths
        self._ends = np.cumsum(tokens, dtype=np.int64)
        self._starts = self._ends - np.asarray(tokens, np.int64)
        self._dtype = dtype
        self._map = lru_cache(OPEN_TOGETHER)(self._map_file)

    def find(self, start: int) -> Path:
        """The file that holds a token."""
        return self._paths[int(np.searchsorted(self._ends, start, side="right"))]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Ids of one file, shape (stop - start,).

        Args:
            start: First of them, counted over all files.
            stop: The one after the last.
        """
        if start >= stop:
            return np.empty(0, self._dtype)
        number = int(np.searchsorted(self._ends, start, side="right"))
        first = int(self._starts[number])
        ids: NDArray[Any] = self._map(number)[start - first : stop - first]
        return ids

    def _map_file(self, number: int) -> NDArray[Any]:
        with self._paths[number].open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self._dtype)


def choose_dtype(vocab_size: int) -> np.dtype[Any]:
    """Two bytes an id where they suffice, else four."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
