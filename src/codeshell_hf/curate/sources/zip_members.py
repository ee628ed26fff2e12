"""Reads zip files member by member, in bounded time and memory.

Python's own reader gives up on a file at the first name that is not text, and on a damaged table of contents; this one
names the fault and goes on. Without a table of contents, members are found by their own headers.
"""

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from .bounds import UnpackedBytes

_END, _ENTRY, _LOCAL, _LOCATOR, _END_64, _DESCRIPTOR = (
    *(b"PK\5\6", b"PK\1\2", b"PK\3\4", b"PK\6\7"),
    *(b"PK\6\6", b"PK\7\x08"),
)
_END_BYTES, _LOCATOR_BYTES, _END_64_BYTES, _ENTRY_BYTES, _LOCAL_BYTES = 22, 20, 56, 46, 30
_DESCRIPTOR_BYTES = 16
_MAX_COMMENT = 65_535
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_EXTRA_64 = 1
_ENCRYPTED, _HAS_DESCRIPTOR, _IS_UTF8 = 1, 8, 0x800
_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_UNIX = 3
_PIECE = 1 << 16
_LZMA_MEMORY = 1 << 28
BROKEN = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error)


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


@dataclass(frozen=True)
class ZipMember:
    """A member.

    Args:
        name: Bytes that are not in the encoding that the member states are lone surrogates.
        size: In bytes, as the archive states it.
        reason: Why it has no content; `None` for a file that may be read.
        method: Of compression.
        crc: Of the content; `None` if it follows the content.
        start: Place of the member's own header in the file.
        packed: Compressed bytes; `None` if unknown.
    """

    name: str
    size: int
    reason: str | None
    method: int
    crc: int | None
    start: int
    packed: int | None


def read_zip(file: BinaryIO, size: int) -> Iterator[ZipMember]:
    """Lists the members of an archive, folders aside.

    Encrypted members, links and unknown compression have a `reason`: "encrypted", "link", "unsupported-compression".

    Raises:
        ValueError: If there is no table of contents, or it is damaged, possibly after some members.
        OSError: If the file cannot be read.
    """
    place, count, shift, end = _find_contents(file, size)
    for number in range(count):
        file.seek(place)
        entry = file.read(_ENTRY_BYTES)
        if len(entry) < _ENTRY_BYTES or entry[:4] != _ENTRY:
            raise ValueError("the table of contents is damaged")
        made_by, _, flags, method, _, _, crc, packed, whole, *lengths, _, _, attributes, start = struct.unpack(
            "<4x6H3I5H2I", entry
        )
        name = file.read(lengths[0])
        extra = file.read(lengths[1])
        place += _ENTRY_BYTES + sum(lengths)
        if len(name) < lengths[0] or len(extra) < lengths[1]:
            raise ValueError("the table of contents is cut short")
        whole, packed, start = _widen(extra, whole, packed, start)
        if number == 0 and not _starts_member(file, start + shift):
            shift = 0
            if not _starts_member(file, start):
                raise ValueError("the table of contents names places where nothing is")
        if name.endswith(b"/") and not whole:
            continue
        is_link = made_by >> 8 == _UNIX and stat.S_ISLNK(attributes >> 16)
        reason = "link" if is_link else _find_reason(flags, method)
        yield ZipMember(_decode(name, flags), whole, reason, method, crc, start + shift, packed)
    if place != end:
        raise ValueError("the table of contents has more entries than it states")


def find_members(file: BinaryIO, budget: UnpackedBytes) -> Iterator[ZipMember]:
    """Finds members by their own headers, for archives whose table of contents is damaged.

    After a member the search goes on behind its content if another part of the archive starts there, else behind its
    mark.
    """
    place = 0
    while (start := _find_mark(file, place, budget)) is not None:
        place = start + len(_LOCAL)
        file.seek(start)
        header = file.read(_LOCAL_BYTES)
        if len(header) < _LOCAL_BYTES:
            return
        flags, method, crc, packed, whole, length, more = struct.unpack("<6x2H4x3I2H", header)
        name, extra = file.read(length), file.read(more)
        if len(name) < length or name.endswith(b"/"):
            continue
        whole, packed, _ = _widen(extra, whole, packed, start)
        is_open = bool(flags & _HAS_DESCRIPTOR) and not packed
        end = start + _LOCAL_BYTES + length + more + packed
        file.seek(end)
        if not is_open and file.read(len(_LOCAL)) in (_LOCAL, _ENTRY, _END, _DESCRIPTOR):
            place = end
        yield ZipMember(
            *(_decode(name, flags), 0 if is_open else whole, _find_reason(flags, method), method),
            *(None if is_open else crc, start, None if is_open else packed),
        )


def read_member(file: BinaryIO, member: ZipMember, max_bytes: int, budget: UnpackedBytes) -> bytes:
    """Reads a member's content, up to a number of bytes.

    Args:
        budget: Of the bytes that the archive may make somebody read.

    Raises:
        ValueError, EOFError, OSError, zlib.error, LZMAError: If it is damaged, or differs from its checksum.
        BombFound: If the archive unpacks to too much.
    """
    file.seek(member.start)
    header = file.read(_LOCAL_BYTES)
    if len(header) < _LOCAL_BYTES or header[:4] != _LOCAL:
        raise ValueError("no member starts here")
    length, more = struct.unpack("<26x2H", header)
    file.seek(member.start + _LOCAL_BYTES + length + more)
    left = member.packed
    unpack = _open(member.method, file)
    content = bytearray()
    while len(content) < max_bytes and not unpack.eof and left != 0:
        piece = file.read(_PIECE if left is None else min(left, _PIECE))
        if not piece:
            raise EOFError("the archive is cut short")
        left = left - len(piece) if left is not None else None
        before = len(content)
        content += unpack.decompress(piece, max_bytes - before)
        budget.spend(len(piece) + len(content) - before)
    while len(content) < max_bytes and not unpack.eof and (rest := unpack.decompress(b"", max_bytes - len(content))):
        content += rest
    crc = member.crc if member.crc is not None else _read_descriptor(unpack.unused_data + file.read(_DESCRIPTOR_BYTES))
    if len(content) < max_bytes and zlib.crc32(content) != crc:
        raise ValueError("the content differs from its checksum")
    return bytes(content)


def _read_descriptor(text: bytes) -> int:
    """The checksum that follows a member whose header has none."""
    (crc,) = struct.unpack_from("<I", text.removeprefix(_DESCRIPTOR))
    return int(crc)


class _Plain:
    """No compression."""

    eof = False
    unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return data[:max_length]


class _Deflate:
    """zlib's decompressor, which hands back what it did not use."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-15)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _open(method: int, file: BinaryIO) -> _Decompressor:
    if method == _STORED:
        return _Plain()
    if method == _DEFLATED:
        return _Deflate()
    if method == _BZIP2:
        return bz2.BZ2Decompressor()
    (length,) = struct.unpack("<2xH", file.read(4))
    properties = file.read(length)
    # As a file of the oldest LZMA format, whose header has the same properties and a size, here unknown.
    unpack = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)
    unpack.decompress(properties + b"\xff" * 8)
    return unpack


def _find_reason(flags: int, method: int) -> str | None:
    if flags & _ENCRYPTED:
        return "encrypted"
    return None if method in (_STORED, _DEFLATED, _BZIP2, _LZMA) else "unsupported-compression"


def _decode(name: bytes, flags: int) -> str:
    return name.decode("utf-8", "surrogateescape") if flags & _IS_UTF8 or name.isascii() else name.decode("cp437")


def _starts_member(file: BinaryIO, place: int) -> bool:
    file.seek(place)
    return file.read(len(_LOCAL)) == _LOCAL


def _find_contents(file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Place of the table of contents, its number of entries, the bytes before the archive's first, and its end."""
    tail = min(size, _END_BYTES + _MAX_COMMENT)
    file.seek(size - tail)
    end = file.read(tail)
    found = _find_end(end)
    count, length, start = struct.unpack("<10xH2I", end[found : found + _END_BYTES][:20])
    place = size - tail + found
    if count == _FULL_16 or _FULL_32 in (length, start):
        file.seek(max(place - _LOCATOR_BYTES, 0))
        locator = file.read(_LOCATOR_BYTES)
        if locator[:4] == _LOCATOR:
            place = max(place - _LOCATOR_BYTES - _END_64_BYTES, 0)
            file.seek(place)
            record = file.read(_END_64_BYTES)
            if len(record) < _END_64_BYTES or record[:4] != _END_64:
                raise ValueError("the large table of contents is damaged")
            count, length, start = struct.unpack("<32x3Q", record)
    if length > place or count * _ENTRY_BYTES > length or (place and not count):
        raise ValueError("the table of contents is damaged")
    return place - length, count, max(place - length - start, 0), place


def _find_end(tail: bytes) -> int:
    """The place of the end record: the last whose comment ends with the file; without one, the last."""
    last = found = tail.rfind(_END, 0, len(tail) - _END_BYTES + len(_END))
    while found >= 0:
        if found + _END_BYTES + int.from_bytes(tail[found + _END_BYTES - 2 : found + _END_BYTES], "little") == len(
            tail
        ):
            return found
        found = tail.rfind(_END, 0, found)
    if last < 0:
        raise ValueError("there is no table of contents")
    return last


def _widen(extra: bytes, whole: int, packed: int, start: int) -> tuple[int, int, int]:
    """Sizes and place of a member, with those that need 64 bits from its extra field."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == _EXTRA_64:
            values = list(struct.unpack_from(f"<{min(length, len(extra) - place - 4) // 8}Q", extra, place + 4))
            whole = values.pop(0) if whole == _FULL_32 and values else whole
            packed = values.pop(0) if packed == _FULL_32 and values else packed
            start = values.pop(0) if start == _FULL_32 and values else start
            break
        place += 4 + length
    return whole, packed, start


def _find_mark(file: BinaryIO, place: int, budget: UnpackedBytes) -> int | None:
    """The place of the next member's header; `None` if there is none."""
    while True:
        file.seek(place)
        piece = file.read(_PIECE)
        found = piece.find(_LOCAL)
        budget.spend(found if found >= 0 else len(piece))
        if found >= 0:
            return place + found
        if len(piece) < _PIECE:
            return None
        place += len(piece) - len(_LOCAL) + 1
