"""Columns of numbers, one per document, that are read on demand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from ..operating_system import read_at


class Column:
    """A column in an `.npy` file: `array` is memory-mapped, single values are read from the file.

    Access to a mapped page loads many others with it, and all count as memory of the process.

    Args:
        path: Path of a one-dimensional array of integers that are not negative.

    Raises:
        OSError, ValueError, EOFError: If it is not one, or shorter than its header says.
    """

    def __init__(self, path: Path) -> None:
        shape, self._dtype, self._offset = _read_header(path)
        self.array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r" if shape[0] else None))
        self._file = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: int) -> int:
        width = self._dtype.itemsize
        place = range(len(self))[place]
        return int.from_bytes(read_at(self._file, width, self._offset + place * width), "little")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and offset in bytes of an array in a file."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return shape, dtype, file.tell()


class Codes(Protocol):
    """A source of codes by index: a `Column`, or an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Any: ...


class Names(Sequence[str]):
    """A sequence of names that are stored as codes.

    Args:
        codes: The code of each document.
        names: The name of each code.
    """

    def __init__(self, codes: Codes, names: Sequence[str]) -> None:
        self._codes = codes
        self.names = names

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        name: str = self.names[self._codes[place]]
        return name
