"""Common Crawl's WET files: pages as text, in WARC records.

A record with a wrong length, or malformed headers, costs itself and no other: reading goes on at the next one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from urllib.parse import urlsplit

from ..settings import Source
from .bounds import BombFound
from .source import Document, Unit
from .tables import BROKEN, open_file

SUFFIXES = (".wet", ".wet.gz", ".warc.wet.gz")
_MARK = b"WARC/1."
_LINE_MARK = b"\n" + _MARK
_END = b"\r\n\r\n"
_MAX_HEADER_BYTES = 65_536
_MAX_DIGITS = 19
_PIECE = 1 << 16


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the pages of a WET file, one document each, with the host as repository.

    A record with wrong length or headers has the reason "corrupt-record"; of a file that is cut short, or no longer
    unpacks, the rest has "corrupt-file".

    Source:
        The WARC file format 1.0, ISO 28500, section 4: header lines, an empty line, Content-Length bytes, two empty
        lines.
    """
    if unit.reason is not None:
        yield Document(f"{unit.id}@", unit.id, size=unit.size, reason=unit.reason)
        return
    count = 0
    try:
        with open_file(Path(unit.path)) as file:
            for record in _RecordReader(file, max_bytes).read():
                if record.is_page:
                    yield _make_document(record, unit, f"{unit.id}@{count}", max_bytes)
                    count += 1
    except BombFound:
        yield Document(f"{unit.id}@", unit.id, size=unit.size, reason="archive-bomb")
    except BROKEN:
        yield Document(f"{unit.id}@", unit.id, size=unit.size, reason="corrupt-file")


@dataclass(frozen=True)
class _Record:
    headers: dict[str, str]
    content: bytes
    size: int
    is_corrupt: bool

    @property
    def is_page(self) -> bool:
        return self.is_corrupt or self.headers.get("warc-type") == "conversion"


def _make_document(record: _Record, unit: Unit, key: str, max_bytes: int) -> Document:
    address = record.headers.get("warc-target-uri", "")
    reason = "corrupt-record" if record.is_corrupt else "too-large" if record.size > max_bytes else None
    return Document(
        *(key, address or unit.id, b"" if reason else record.content, record.size, "web-text", _find_host(address)),
        *(unit.licence, None, reason),
    )


def _find_host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class _RecordReader:
    """Reads records from a stream, of which it holds `max_bytes` and a piece at most."""

    def __init__(self, file: BufferedReader, max_bytes: int) -> None:
        self._file = file
        self._held = b""
        self._is_at_end = False
        self._error: Exception | None = None
        self._max_bytes = max_bytes

    def read(self) -> Iterator[_Record]:
        while self._skip_empty_lines():
            record = self._read_record()
            if record.is_corrupt and self._error is not None and not self._held:
                break
            yield record
        if self._error is not None:
            raise self._error

    def _read_record(self) -> _Record:
        if not self._held.startswith(_MARK):
            return _Record({}, b"", self._skip_to_mark(), is_corrupt=True)
        headers = self._read_headers()
        length = headers.get("content-length", "")
        is_number = length.isascii() and length.isdigit() and len(length) < _MAX_DIGITS
        return self._read_body(headers, int(length) if is_number else None)

    def _fill(self, size: int) -> None:
        """Holds at least so many bytes, unless the stream ends."""
        if len(self._held) >= size or self._is_at_end:
            return
        pieces = [self._held]
        held = len(self._held)
        while held < size:
            # Not read(), which loses what it has read when the rest of the file is broken.
            try:
                piece = self._file.read1(_PIECE)
            except (*BROKEN, BombFound) as error:  # raised once what came before is read
                self._error, piece = error, b""
            if not piece:
                self._is_at_end = True
                break
            pieces.append(piece)
            held += len(piece)
        self._held = b"".join(pieces)

    def _skip_empty_lines(self) -> bool:
        """Whether anything follows."""
        while True:
            self._fill(_PIECE)
            left = self._held.lstrip(b"\r\n")
            if left:
                self._held = left
                self._fill(len(_MARK))
                return True
            self._held = b""
            if self._is_at_end:
                return False

    def _read_headers(self) -> dict[str, str]:
        self._fill(_MAX_HEADER_BYTES)
        ends = [(place, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (place := self._held.find(mark)) >= 0]
        place, length = min(ends, default=(min(len(self._held), _MAX_HEADER_BYTES), 0))
        place = min(place, _MAX_HEADER_BYTES)
        block, self._held = self._held[:place], self._held[place + length :]
        headers = {}
        for line in block.split(b"\n")[1:]:
            name, _, value = line.decode("utf-8", errors="replace").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _read_body(self, headers: dict[str, str], length: int | None) -> _Record:
        if length is not None and length <= self._max_bytes:
            self._fill(length + len(_END) + len(_MARK))
            if self._ends_at(length):
                content, self._held = self._held[:length], self._held[length:]
                return _Record(headers, content, length, is_corrupt=False)
        size = self._skip_to_mark()
        is_right = length is not None and size == length and length > self._max_bytes
        return _Record(headers, b"", size, is_corrupt=not is_right)

    def _ends_at(self, length: int) -> bool:
        """Whether a record of so many of the held bytes ends as it should."""
        after = self._held[length : length + len(_END) + len(_MARK)]
        if len(self._held) < length:
            return False
        is_before_record = after[:1] in (b"\r", b"\n") and after.lstrip(b"\r\n").startswith(_MARK)
        return after.startswith(_END) or is_before_record or (self._is_at_end and not after.strip(b"\r\n"))

    def _skip_to_mark(self) -> int:
        """Skips up to the next record or the end; the number of bytes passed over, without the empty lines behind."""
        passed = 0
        while True:
            self._fill(_PIECE + len(_LINE_MARK))
            found = self._held.find(_LINE_MARK)
            if found >= 0:
                passed += len(self._held[:found].rstrip(b"\r\n"))
                self._held = self._held[found + 1 :]
                return passed
            if self._is_at_end:
                passed += len(self._held.rstrip(b"\r\n"))
                self._held = b""
                return passed
            keep = len(_LINE_MARK) + len(_END)
            passed += len(self._held) - keep
            self._held = self._held[-keep:]
