"""Reads tar files block by block, in bounded time and memory.

Python's own reader holds extended headers whole, searches them in quadratic time, and gives up at the first wrong
checksum; this one goes on with the next header that is whole.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = 512
MAX_HEADER_BYTES = 1 << 20  # of names and attributes before one member
_MAX_DIGITS = 20
_FILE = (b"0", b"\0", b"7")
_LINK = (b"1", b"2")
_DEVICE = (b"3", b"4", b"6")
_FOLDER = (b"5", b"D")
_SPARSE = b"S"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_ATTRIBUTES, _GLOBAL_ATTRIBUTES, _OLD_ATTRIBUTES = b"x", b"g", b"X"
_LABEL = (b"V", b"M")  # GNU's volume label, and the rest of a member of another volume
_PIECE = 1 << 16
_OCTAL = re.compile(rb" *([0-7]*)(?:[ \0].*)?", re.DOTALL)
_SPARSE_PREFIX = "GNU.sparse."
_SPARSE_NAME = "GNU.sparse.name"
_SPARSE_SIZES = ("GNU.sparse.realsize", "GNU.sparse.size")
_MAX_NAME_BYTES = 4_096


@dataclass
class TarMember:
    """A member, to be read before the next one is asked for.

    Args:
        name: As stored; bytes that are not UTF-8 are lone surrogates.
        size: In bytes, as the member states.
        reason: Why it has no content; `None` for a file.
        file: The archive, at the first byte that was not read.
        left: Bytes that were not read.
    """

    name: str
    size: int
    reason: str | None = None
    file: IO[bytes] | None = None
    left: int = 0

    def read(self, max_bytes: int) -> bytes:
        """Reads the content, up to a number of bytes.

        Raises:
            EOFError: If the archive ends before.
        """
        if self.file is None:
            return b""
        wanted = min(self.left, max_bytes)
        content = self.file.read(wanted)
        self.left -= len(content)
        if len(content) < wanted:
            raise EOFError("the archive is cut short")
        return content


def read_tar(file: IO[bytes]) -> Iterator[TarMember]:
    """Reads the members of an archive, folders aside.

    Links, devices, sparse files and members with damaged headers have a `reason`: "link", "not-a-file",
    "sparse-file" or "corrupt-header", whose size is that of the bytes passed over.

    Raises:
        EOFError: If the archive is cut short.
        OSError: If it cannot be read.
    """
    blocks = _Blocks(file)
    names: dict[str, str] = {}
    shared: dict[str, str] = {}
    while (block := blocks.read()) is not None:
        header = _parse(block)
        if header is None:
            yield TarMember("", blocks.skip_to_header(), "corrupt-header")
            names = {}
            continue
        name, kind, size = header
        if kind in (_LONG_NAME, _LONG_LINK, _ATTRIBUTES, _OLD_ATTRIBUTES, _GLOBAL_ATTRIBUTES):
            if size > MAX_HEADER_BYTES:
                blocks.skip(_pad(size))
                yield TarMember(name, size, "corrupt-header")
                continue
            text = blocks.read_bytes(_pad(size))[:size]
            if kind == _LONG_NAME:
                names["path"] = _decode(text.partition(b"\0")[0][:_MAX_NAME_BYTES])
            elif kind == _GLOBAL_ATTRIBUTES:
                shared |= _parse_attributes(text)
            elif kind != _LONG_LINK:
                names |= _parse_attributes(text)
            continue
        attributes = {**shared, **names}
        names = {}
        size = _parse_decimal(attributes.get("size"), size)
        member = TarMember(attributes.get("path") or name, size)
        stored = size
        if kind == _SPARSE or any(key.startswith(_SPARSE_PREFIX) for key in attributes):
            blocks.skip_sparse_map(block, kind)
            member.name = attributes.get(_SPARSE_NAME, member.name)
            member.size, member.reason = _find_real_size(attributes, block, kind), "sparse-file"
        elif kind in _FILE:
            if member.name.endswith("/"):  # a folder of the oldest tars
                blocks.skip(_pad(size))
                continue
            member.file, member.left = file, size
        elif kind in _LINK:
            stored, member.size, member.reason = 0, 0, "link"
        elif kind in _FOLDER or kind in _LABEL:
            blocks.skip(0 if kind == b"5" else _pad(size))
            continue
        else:
            stored, member.reason = (0 if kind in _DEVICE else size), "not-a-file"
        yield member
        blocks.skip(_pad(stored) - (size - member.left if member.file else 0))


class _Blocks:
    """The blocks of an archive in order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._is_at_start = True
        self._pending: bytes | None = None

    def read(self) -> bytes | None:
        """The next block that is not empty; `None` at the end."""
        if self._pending is not None:
            block, self._pending = self._pending, None
            return block
        while block := self._file.read(BLOCK):
            if len(block) < BLOCK:
                if not block.strip(b"\0"):
                    return None
                raise EOFError("the archive is cut short")
            if block.strip(b"\0"):
                self._is_at_start = False
                return block
            self._is_at_start = False
        if self._is_at_start:
            raise EOFError("the archive is empty")
        return None

    def read_bytes(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise EOFError("the archive is cut short")
        return content

    def skip(self, size: int) -> None:
        while size > 0:
            piece = self._file.read(min(size, _PIECE))
            if not piece:
                raise EOFError("the archive is cut short")
            size -= len(piece)

    def skip_to_header(self) -> int:
        """Skips damaged blocks up to the next header; the number of bytes passed over, the damaged header included."""
        passed = BLOCK
        while (block := self.read()) is not None:
            if block[257:262] == b"ustar" and _parse(block) is not None:
                self._pending = block
                return passed
            passed += BLOCK
        return passed

    def skip_sparse_map(self, block: bytes, kind: bytes) -> None:
        """Skips the blocks of a GNU sparse header that has more pieces than fit into the first."""
        is_extended = kind == _SPARSE and block[482:483] not in (b"\0", b"0")
        while is_extended:
            is_extended = self.read_bytes(BLOCK)[504:505] not in (b"\0", b"0")


def _parse(block: bytes) -> tuple[str, bytes, int] | None:
    """Name, type and stored size of a header; `None` if its checksum or size is wrong."""
    stated = _parse_number(block[148:156])
    plain = block[:148] + b" " * 8 + block[156:]
    total = sum(plain)
    signed = total - 256 * sum(byte > 127 for byte in plain)
    size = _parse_number(block[124:136])
    if stated is None or stated not in (total, signed) or size is None or size < 0:
        return None
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345] != 0:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    return _decode(name), block[156:157], size


def _parse_number(text: bytes) -> int | None:
    if text[:1] in (b"\x80", b"\xff"):  # GNU's binary numbers
        return int.from_bytes(text[1:], "big", signed=False) if text[0] == 0x80 else -1
    found = _OCTAL.fullmatch(text)
    return int(found[1] or b"0", 8) if found is not None else None


def _parse_attributes(text: bytes) -> dict[str, str]:
    """Parses records of `length key=value` in one pass, and keeps path, size and what makes a member sparse.

    Records behind a malformed one are left out.
    """
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        space = text.find(b" ", place, place + _MAX_DIGITS)
        digits = text[place:space]
        if space < 0 or not digits.isdigit():
            break
        end = place + int(digits)
        if end <= space + 1 or end > len(text):
            break
        key, _, value = text[space + 1 : end].partition(b"=")
        name = _decode(key[:_MAX_DIGITS])
        if name in ("path", "size") or name.startswith(_SPARSE_PREFIX):
            found[name] = _decode(value.rstrip(b"\n")[:_MAX_NAME_BYTES])
        place = end
    return found


def _find_real_size(attributes: dict[str, str], block: bytes, kind: bytes) -> int:
    if kind == _SPARSE:
        return _parse_number(block[483:495]) or 0
    return next((_parse_decimal(attributes[key], 0) for key in _SPARSE_SIZES if key in attributes), 0)


def _parse_decimal(text: str | None, default: int) -> int:
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS
    return int(text) if is_number and text is not None else default


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _pad(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
