"""Files of token ids in datatrove's format, read as one concatenated sequence."""

from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..operating_system import read_at

SUFFIX, INDEX_SUFFIX, METADATA_SUFFIX = ".ds", ".ds.index", ".ds.metadata"
# Many systems limit a process to about a thousand open files.
OPEN_TOGETHER = 256

TokenArray = NDArray[np.unsignedinteger[Any]]
TokenType = np.dtype[np.unsignedinteger[Any]]


class TokenFiles:
    """Token files, of which the most recently used are open.

    They are read and not memory-mapped: for single documents, the system would read ahead around mapped pages, and
    mapped pages count as memory of the process.

    Args:
        paths: Paths of the files, none of them empty.
        tokens: Number of ids in each file.
        dtype: Dtype of an id.

    Source:
        datatrove 0.10: consecutive ids of two or four bytes, little-endian.
    """

    def __init__(self, paths: Sequence[Path], tokens: Sequence[int], dtype: TokenType) -> None:
        self._paths = paths
        self._ends = np.cumsum(tokens, dtype=np.int64)
        self._starts = self._ends - np.asarray(tokens, np.int64)
        self._dtype = dtype
        self._opened: dict[int, FileIO] = {}  # the most recently used is the last
        self._lock = Lock()

    def find(self, start: int) -> Path:
        """The path of the file with a token."""
        return self._paths[self._find(start)]

    def read(self, start: int, stop: int) -> TokenArray:
        """Ids of one file, shape (stop - start,); fewer if the file is shorter.

        Args:
            start: The first id, counted over all files.
            stop: The one after the last.
        """
        if start >= stop:
            return np.empty(0, self._dtype)
        number = self._find(start)
        width = self._dtype.itemsize
        with self._lock:
            data = read_at(self._open(number), (stop - start) * width, (start - int(self._starts[number])) * width)
        return np.frombuffer(data, self._dtype, len(data) // width)

    def _find(self, start: int) -> int:
        return int(np.searchsorted(self._ends, start, side="right"))

    def _open(self, number: int) -> FileIO:
        file = self._opened.pop(number, None) or self._paths[number].open("rb", buffering=0)
        self._opened[number] = file
        if len(self._opened) > OPEN_TOGETHER:
            self._opened.pop(next(iter(self._opened))).close()
        return file

    def __del__(self) -> None:
        for file in self._opened.values():
            file.close()


def choose_dtype(vocab_size: int) -> TokenType:
    """Two bytes per id if they suffice, else four."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
