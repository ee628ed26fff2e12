"""Bounds on what an untrusted file may unpack to."""

import io
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# A file is a bomb if it unpacks to more bytes than this, and to this many times its own size.
BOMB_BYTES = 1_000_000_000
BOMB_RATIO = 200
_BUFFER_BYTES = 1 << 17


class BombFound(Exception):
    """A file unpacks to far more than its size."""


class UnpackedBytes:
    """The bytes that a file of a size may unpack to."""

    def __init__(self, size: int) -> None:
        self._left = max(BOMB_BYTES, BOMB_RATIO * size)

    def spend(self, size: int) -> None:
        """Counts bytes; `BombFound` if they are too many."""
        self._left -= size
        if self._left < 0:
            raise BombFound


class Compressed(Protocol):
    """A file that is decompressed while it is read."""

    def read1(self, size: int, /) -> bytes:
        """Reads some bytes, at most so many."""

    def close(self) -> None:
        """Closes it."""


class _Metered(io.RawIOBase):
    def __init__(self, file: Compressed, budget: UnpackedBytes, below: BinaryIO) -> None:
        self._file = file
        self._budget = budget
        self._below = below

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        piece = self._file.read1(len(view))
        self._budget.spend(len(piece))
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._below.close()
        super().close()


def meter(file: Compressed, budget: UnpackedBytes, below: BinaryIO) -> io.BufferedReader:
    """A file for reading whose bytes are counted, and which closes the one `below` it, too."""
    return io.BufferedReader(_Metered(file, budget, below), _BUFFER_BYTES)
