"""Malformed inputs: what is well is kept, what is not has a named reason, and nothing hangs or ends a run."""

import gzip
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.settings import Source
from codeshell_hf.curate.sources import Document, bounds, list_units, read_unit
from codeshell_hf.errors import DataError
from tests.curate.toy_corpus import run

LIMIT_S = 20.0
MAX_BYTES = 50_000
GOODS = [f"def area_{number}(radius):\n    return {number} + 3.14159 * radius ** 2\n" for number in range(8)]
ROWS = [{"content": text, "path": f"{number}.py"} for number, text in enumerate(GOODS)]
Case = tuple[Callable[[Path], object], int, dict[str, int]]
"""What writes the input, how many good documents are in it, and the reasons of all others."""


def read(kind: str, place: Path) -> list[Document]:
    """All documents, in bounded time: the alarm of `limit_time` ends what hangs."""
    source = Source(name="s", kind=kind, path=str(place))
    return [document for unit in list_units(source) for document in read_unit(source, unit, max_bytes=MAX_BYTES)]


def check(kind: str, place: Path, case: Case) -> None:
    write, good, reasons = case
    place.mkdir()
    write(place)

    documents = read(kind, place)

    texts = [document.content.decode("utf-8", "replace").removeprefix("\ufeff") for document in documents]
    kept = [text for text, document in zip(texts, documents, strict=True) if document.reason is None]
    assert sum(text in GOODS for text in kept) == good, [(d.id, d.reason) for d in documents]
    assert dict(Counter(document.reason for document in documents if document.reason)) == reasons
    assert len({document.id for document in documents}) == len(documents)
    # All that is stored as text or number fits into a table.
    for document in documents:
        f"{document.id}{document.path}{document.repository}{document.licence}".encode()
        assert 0 <= document.size < 2**63
        assert -(2**63) <= (document.stars or 0) < 2**63


def lines(*rows: object) -> Callable[[Path], object]:
    """JSON Lines of objects, and of lines as they are."""
    data = b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    return lambda place: (place / "t.jsonl").write_bytes(data)


def with_text(**fields: object) -> dict[str, object]:
    return {**ROWS[0], **fields}


def in_order(*writers: Callable[[Path], object]) -> Callable[[Path], object]:
    def write(place: Path) -> None:
        for writer in writers:
            writer(place)

    return write


def link(name: str, to: str) -> Callable[[Path], object]:
    return lambda place: (place / name).symlink_to(to)


def raw(text: str) -> bytes:
    """A good row whose last field is written as it is."""
    return json.dumps(ROWS[1]).encode()[:-1] + b", " + text.encode() + b"}"


PACKED = gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode(), mtime=0)
TABLES: dict[str, Case] = {
    "stars without an end": (lines(raw('"stars": 1e999'), ROWS[0]), 2, {}),
    "stars that are no number": (lines(raw('"stars": NaN'), raw('"stars": -Infinity')), 2, {}),
    "stars of thirty digits": (lines(raw('"stars": ' + "9" * 30)), 1, {}),
    "a number of ten thousand digits": (lines(raw('"stars": ' + "9" * 10_000), ROWS[0]), 2, {}),
    "stars as a list": (lines(with_text(stars=[1])), 1, {}),
    "stars below all numbers": (lines(with_text(stars=-(2**63) - 1)), 1, {}),
    "a lone surrogate in a path": (lines(raw('"path": "a\\ud800.py"')), 1, {}),
    "a lone surrogate in a name": (lines(raw('"repo": "\\udcff/x"'), raw('"license": "\\ud9ab"')), 2, {}),
    "a path with an end of line": (lines(with_text(path="a\nb\0c.py")), 1, {}),
    "a path of a megabyte": (lines(with_text(path="a" * 100_000 + ".py")), 1, {}),
    "a path that is an object": (lines(with_text(path={"a": 1}, lang="Python")), 1, {}),
    "licences of all kinds": (lines(with_text(license=[None, 3, {"a": 1}, "MIT"]), with_text(license=7)), 2, {}),
    "text that is none": (lines({"content": 3}, {"content": ["x"]}, {"content": None}, ROWS[0]), 1, {"no-text": 3}),
    "half a line": (lines(ROWS[0], b'{"content": "x', ROWS[1]), 2, {"broken-line": 1}),
    "bytes that are not UTF-8": (lines(ROWS[0], b'{"content": "\xff\xfe"}', ROWS[1]), 2, {"broken-line": 1}),
    "NUL bytes": (lines(ROWS[0], b"\0\0\0\0", ROWS[1]), 2, {"broken-line": 1}),
    "a byte order mark": (lines(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode(), ROWS[1]), 2, {}),
    "nesting without end": (lines(b"[" * 40_000, b'{"a":' * 40_000, ROWS[0]), 1, {"broken-line": 2}),
    "two objects in a line": (lines(ROWS[0], b'{"content": "a"} {"content": "b"}'), 1, {"broken-line": 1}),
    "no end of line": (lines(b"x" * 2_000_000), 0, {"too-large": 1}),
    "the same key twice": (lines(b'{"content": 1, ' + json.dumps(ROWS[0]).encode()[1:]), 1, {}),
    "a folder named as a table": (
        in_order(lambda p: (p / "a.jsonl").mkdir(), lines(ROWS[0])),
        1,
        {},
    ),
    "a pipe named as a table": (in_order(lambda p: os.mkfifo(p / "a.jsonl"), lines(ROWS[0])), 1, {"not-a-file": 1}),
    "a link to itself": (in_order(lambda p: (p / "a.jsonl").symlink_to("a.jsonl"), lines(ROWS[0])), 1, {"link": 1}),
    "an empty table": (lambda p: ((p / "a.jsonl").write_bytes(b""), lines(ROWS[0])(p)), 1, {}),
    "gzip cut short": (lambda p: (p / "a.jsonl.gz").write_bytes(PACKED[:-9]), 8, {"corrupt-file": 1}),
    "gzip with another checksum": (
        lambda p: (p / "a.jsonl.gz").write_bytes(PACKED[:-8] + b"12345678"),
        8,
        {"corrupt-file": 1},
    ),
    "gzip that is none": (lambda p: (p / "a.jsonl.gz").write_bytes(b"no gzip"), 0, {"corrupt-file": 1}),
    "gzip with something behind": (
        lambda p: (p / "a.jsonl.gz").write_bytes(PACKED + b"and more"),
        8,
        {"corrupt-file": 1},
    ),
    "xz that is none": (lambda p: (p / "a.jsonl.xz").write_bytes(b"\xfd7zXZ\0!"), 0, {"corrupt-file": 1}),
    "bzip2 that is none": (lambda p: (p / "a.jsonl.bz2").write_bytes(b"BZh9nothing"), 0, {"corrupt-file": 1}),
    "zstd that is none": (lambda p: (p / "a.jsonl.zst").write_bytes(b"(\xb5/\xfdnothing"), 0, {"corrupt-file": 1}),
}


def write_parquet(table: pa.Table, **options: object) -> Callable[[Path], object]:
    return lambda place: pq.write_table(table, place / "t.parquet", **options)


def text_of(*values: bytes) -> pa.Array:
    """An array of text that may not be UTF-8."""
    offsets = pa.py_buffer(
        struct.pack(f"<{len(values) + 1}i", 0, *(sum(map(len, values[: n + 1])) for n in range(len(values))))
    )
    return pa.StringArray.from_buffers(len(values), offsets, pa.py_buffer(b"".join(values)))


GOOD_TEXTS = pa.array(GOODS[:2])
BAD_TEXT = b"caf\xe9\xff"
PARQUET: dict[str, Case] = {
    "text that is not UTF-8": (write_parquet(pa.table({"content": text_of(GOODS[0].encode(), BAD_TEXT)})), 1, {}),
    "a path that is not UTF-8": (
        write_parquet(pa.table({"content": GOOD_TEXTS, "path": text_of(b"a.py", BAD_TEXT)})),
        2,
        {},
    ),
    "licences that are not UTF-8": (
        write_parquet(
            pa.table(
                {
                    "content": GOOD_TEXTS,
                    "licenses": pa.ListArray.from_arrays([0, 1, 2], text_of(b"MIT", BAD_TEXT)),
                }
            )
        ),
        2,
        {},
    ),
    "stars beyond all integers": (
        write_parquet(pa.table({"content": GOOD_TEXTS, "stars": [1e300, float("nan")]})),
        2,
        {},
    ),
    "stars as times out of range": (
        write_parquet(pa.table({"content": GOOD_TEXTS, "stars": pa.array([2**62, -(2**62)], pa.timestamp("us"))})),
        2,
        {},
    ),
    "stars as decimals": (
        write_parquet(pa.table({"content": GOOD_TEXTS, "stars": pa.array([None, 10**37], pa.decimal128(38))})),
        2,
        {},
    ),
    "text as a dictionary": (write_parquet(pa.table({"content": GOOD_TEXTS.dictionary_encode()})), 2, {}),
    "text as bytes": (write_parquet(pa.table({"content": GOOD_TEXTS.cast(pa.binary())})), 2, {}),
    "text as numbers": (write_parquet(pa.table({"content": [1, 2]})), 0, {"no-text": 2}),
    "text as an object": (write_parquet(pa.table({"content": [{"a": 1}, None]})), 0, {"no-text": 2}),
    "two columns of one name": (
        write_parquet(pa.Table.from_arrays([GOOD_TEXTS, GOOD_TEXTS], names=["content", "content"])),
        2,
        {},
    ),
    "no row": (write_parquet(pa.table({"content": pa.array([], pa.string())})), 0, {}),
    "a table without text beside one with it": (
        lambda p: (
            pq.write_table(pa.table({"x": [1]}), p / "a.parquet"),
            write_parquet(pa.table({"content": GOOD_TEXTS}))(p),
        ),
        2,
        {"no-text": 1},
    ),
    "a file that is no table": (
        lambda p: (
            (p / "a.parquet").write_bytes(b"PAR1" + b"x" * 90 + b"PAR1"),
            write_parquet(pa.table({"content": GOOD_TEXTS}))(p),
        ),
        2,
        {"corrupt-file": 1},
    ),
    "a footer longer than the file": (
        lambda p: (p / "a.parquet").write_bytes(b"PAR1\xff\xff\xff\x7fPAR1"),
        0,
        {"corrupt-file": 1},
    ),
}


def add(archive: tarfile.TarFile, name: str, content: bytes, **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def tar(*members: tuple[str, bytes, dict[str, object]], format: int = tarfile.GNU_FORMAT) -> bytes:  # noqa: A002
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content, fields in members:
            add(archive, name, content, **fields)
    return out.getvalue()


def good_member(number: int) -> tuple[str, bytes, dict[str, object]]:
    return f"{number}.py", GOODS[number].encode(), {}


def pax(name: str, content: bytes, **headers: str) -> tuple[str, bytes, dict[str, object]]:
    return name, content, {"pax_headers": headers}


def header(kind: bytes, size: int, name: bytes = b"x") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = b"%011o\0" % size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def write_as(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(data)


TWO = tar(good_member(0), good_member(1), good_member(2))
DAMAGED = TWO[:1024] + b"?" + TWO[1025:]
LONG = "a/" * 90 + "b.py"
RECORDS = b"".join(b"12 path=abc\n" for _ in range(40_000))
TARS: dict[str, Case] = {
    "a name in Latin-1": (
        write_as("a.tar", TWO.replace(b"1.py", b"\xe9.py").replace(b"x", b"x")),
        2,
        {"corrupt-header": 1},
    ),
    "names of two hundred characters": (
        write_as("a.tar", tar((LONG, GOODS[0].encode(), {}), pax(LONG, GOODS[1].encode(), path=LONG))),
        2,
        {},
    ),
    "a PAX name that is not UTF-8": (
        write_as("a.tar", header(b"x", 15) + b"15 path=\xff\xfe.py\n".ljust(512, b"\0")[:512] + TWO[:1024]),
        1,
        {},
    ),
    "PAX records without end": (
        write_as("a.tar", header(b"x", len(RECORDS)) + RECORDS.ljust(-(-len(RECORDS) // 512) * 512, b"\0") + TWO),
        3,
        {},
    ),
    "a PAX header of digits": (
        write_as("a.tar", header(b"x", 400_000) + (b"1" * 400_000).ljust(400_384, b"\0") + TWO),
        3,
        {},
    ),
    "a PAX header of gigabytes": (write_as("a.tar", header(b"x", 2**33 - 1) + TWO), 0, {"corrupt-file": 1}),
    "a PAX header of two megabytes": (
        write_as("a.tar", header(b"x", 2_000_384) + b" " * 2_000_384 + TWO),
        3,
        {"corrupt-header": 1},
    ),
    "a PAX size that is none": (
        write_as("a.tar", tar(pax("a.py", GOODS[0].encode(), size="-5"), format=tarfile.PAX_FORMAT)),
        1,
        {},
    ),
    "a damaged header between good members": (write_as("a.tar", DAMAGED), 2, {"corrupt-header": 1}),
    "a member longer than the archive": (
        write_as("a.tar", TWO[:1024] + header(b"0", 9_000, b"c.py") + b"abc"),
        1,
        {"corrupt-file": 1},
    ),
    "an archive cut short": (write_as("a.tar", TWO[:2_100]), 2, {"corrupt-file": 1}),
    "an archive of zeros": (write_as("a.tar", b"\0" * 10_240), 0, {}),
    "an empty archive": (write_as("a.tar", b""), 0, {"corrupt-file": 1}),
    "text named as an archive": (write_as("a.tar", b"hello " * 400), 0, {"corrupt-file": 1}),
    "links, pipes and devices": (
        write_as(
            "a.tar",
            tar(
                good_member(0),
                ("l.py", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
                ("h.py", b"", {"type": tarfile.LNKTYPE, "linkname": "0.py"}),
                ("p.py", b"", {"type": tarfile.FIFOTYPE}),
                ("d.py", b"", {"type": tarfile.CHRTYPE}),
                ("folder", b"", {"type": tarfile.DIRTYPE}),
                good_member(1),
            ),
        ),
        2,
        {"link": 2, "not-a-file": 2},
    ),
    "a sparse file": (
        write_as(
            "a.tar",
            header(b"x", 27)
            + b"27 GNU.sparse.name=hole.py\n".ljust(512, b"\0")
            + header(b"0", 3)
            + b"abc".ljust(512, b"\0")
            + TWO,
        ),
        3,
        {"sparse-file": 1},
    ),
    "the same name many times": (
        write_as("a.tar", tar(*(("a.py", text.encode(), {}) for text in GOODS), ("a.py#2", GOODS[0].encode(), {}))),
        9,
        {},
    ),
    "names that lead out": (
        write_as("a.tar", tar(("../a.py", b"x", {}), ("/b.py", b"x", {}), good_member(0))),
        1,
        {"unsafe-path": 2},
    ),
    "an archive compressed in another way than its name says": (write_as("a.tar", gzip.compress(TWO)), 3, {}),
    "times out of range": (write_as("a.tar", tar(("a.py", GOODS[0].encode(), {"mtime": 8 * 10**10}))), 1, {}),
}


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


ZIP = zipped(*((f"{number}.py", text.encode()) for number, text in enumerate(GOODS)))
STORED = zipped(*((f"{number}.py", text.encode()) for number, text in enumerate(GOODS)), method=zipfile.ZIP_STORED)


def change(data: bytes, old: bytes, new: bytes, *, last: bool = False) -> bytes:
    place = data.rfind(old) if last else data.find(old)
    assert place >= 0
    return data[:place] + new + data[place + len(old) :]


def with_flag(data: bytes, flag: int) -> bytes:
    """Sets a flag of the last entry of the table of contents."""
    place = data.rfind(b"PK\1\2")
    return data[: place + 8] + struct.pack("<H", flag) + data[place + 10 :]


ZIPS: dict[str, Case] = {
    "one wrong checksum": (write_as("a.zip", change(STORED, b"area_3", b"area_X")), 7, {"corrupt-member": 1}),
    "every method": (
        lambda p: [write_as(f"{m}.zip", zipped(("a.py", GOODS[0].encode()), method=m))(p) for m in (0, 8, 12, 14)],
        4,
        {},
    ),
    "an encrypted member": (write_as("a.zip", with_flag(ZIP, 1)), 7, {"encrypted": 1}),
    "an unknown method": (
        write_as("a.zip", (lambda place: ZIP[: place + 10] + b"\x63\0" + ZIP[place + 12 :])(ZIP.rfind(b"PK\1\2"))),
        7,
        {"unsupported-compression": 1},
    ),
    "a name that is not UTF-8": (
        write_as("a.zip", change(with_flag(ZIP, 0x800), b"7.py", b"\xff.py", last=True)),
        8,
        {},
    ),
    "a name of another code page": (write_as("a.zip", change(ZIP, b"7.py", b"\x81.py", last=True)), 8, {}),
    "a table of contents that is cut off": (write_as("a.zip", ZIP[: ZIP.find(b"PK\1\2")]), 8, {"corrupt-file": 1}),
    "a damaged table of contents": (
        write_as("a.zip", change(ZIP, b"PK\1\2", b"PKXX", last=True)),
        8,
        {"corrupt-file": 1},
    ),
    "fewer entries than there are": (
        write_as("a.zip", change(ZIP, struct.pack("<2H", 8, 8), struct.pack("<2H", 3, 3), last=True)),
        8,
        {"corrupt-file": 1},
    ),
    "nothing but a mark": (write_as("a.zip", b"PK\3\4 and nothing more"), 0, {"corrupt-file": 1}),
    "text named as an archive": (write_as("a.zip", b"hello"), 0, {"corrupt-file": 1}),
    "something before the archive": (write_as("a.zip", b"#!/bin/sh\n" + ZIP), 8, {}),
    "a comment": (write_as("a.zip", ZIP[:-2] + b"\x05\0hello"), 8, {}),
    "a size that is not true": (
        write_as("a.zip", (lambda place: ZIP[: place + 24] + b"\1\0\0\0" + ZIP[place + 28 :])(ZIP.rfind(b"PK\1\2"))),
        8,
        {},
    ),
    "a size beyond all limits": (
        write_as(
            "a.zip", (lambda place: ZIP[: place + 24] + b"\xfe\xff\xff\xff" + ZIP[place + 28 :])(ZIP.rfind(b"PK\1\2"))
        ),
        7,
        {"too-large": 1},
    ),
    "names that lead out": (
        write_as("a.zip", zipped(("../a.py", b"x"), ("C:\\b.py", b"x"), ("0.py", GOODS[0].encode()))),
        1,
        {"unsafe-path": 2},
    ),
    "a member that unpacks to much": (
        write_as("a.zip", zipped(("a.py", b"\0" * 9_000_000), ("0.py", GOODS[0].encode()))),
        1,
        {"too-large": 1},
    ),
}


def record(text: str, length: object = None, *, kind: str = "conversion") -> bytes:
    content = text.encode()
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://example.org/a\r\n"
    size = "" if length == "" else f"Content-Length: {len(content) if length is None else length}\r\n"
    return (head + size + "\r\n").encode() + content + b"\r\n\r\n"


def pages(*records: bytes) -> Callable[[Path], object]:
    return write_as("a.wet", record("software: x", kind="warcinfo") + b"".join(records))


BROKEN_LENGTHS = (5, 10_000, 90_000, -5, "", "abc", "1_0", "٣", "9" * 400, "0x10", "1e3")
WARC: dict[str, Case] = {
    **{
        f"a length of {str(length)[:9]!r}": (
            pages(record(GOODS[0]), record("Some words of a page.\nAnd more.\n", length), record(GOODS[1])),
            2,
            {"corrupt-record": 1},
        )
        for length in BROKEN_LENGTHS
    },
    "a record that is cut short": (pages(record(GOODS[0]), record("x" * 90)[:-30]), 1, {"corrupt-record": 1}),
    "something between records": (
        pages(record(GOODS[0]), b"garbage\n" * 9, record(GOODS[1])),
        2,
        {"corrupt-record": 1},
    ),
    "headers without end": (pages(record(GOODS[0]), b"WARC/1.0\r\n" + b"a" * 200_000), 1, {"corrupt-record": 1}),
    "an address that is none": (
        pages(record(GOODS[0]).replace(b"https://example.org/a", b"http://[::1/\xff")),
        1,
        {},
    ),
    "a page that quotes a record": (pages(record("a\r\n\r\nWARC/1.0\r\nb"), record(GOODS[1])), 1, {}),
    "gzip cut short": (
        write_as(
            "a.wet.gz",
            gzip.compress(record(GOODS[0])) + gzip.compress(record(GOODS[1])) + gzip.compress(record(GOODS[2]))[:-20],
        ),
        2,
        {"corrupt-file": 1},
    ),
}


def post(number: object, body: str, kind: int = 1, **more: object) -> str:
    fields = "".join(f' {name}="{value}"' for name, value in more.items())
    return f'<row Id="{number}" PostTypeId="{kind}" Title="T" Body="{body}"{fields} />\n'


def posts(*rows: str) -> Callable[[Path], object]:
    return write_as("Posts.xml", ("\ufeff<?xml version='1.0'?>\n<posts>\n" + "".join(rows) + "</posts>\n").encode())


POSTS: dict[str, tuple[Callable[[Path], object], int, dict[str, int]]] = {
    "a score beyond all integers": (posts(post(1, "a", Score="9" * 30), post(2, "b")), 2, {}),
    "an id that is none": (posts(post("x", "a"), post("", "b"), post(3, "c")), 1, {"broken-line": 2}),
    "an answer to nothing": (posts(post(1, "a"), post(2, "b", 2, ParentId="77")), 1, {"no-question": 1}),
    "the same id twice": (posts(post(1, "a"), post(1, "b")), 1, {"repeated-id": 1}),
    "posts of other kinds": (posts(post(1, "a"), post(2, "b", 5), '<row Id="3" />\n'), 1, {"other-post": 2}),
    "half a row": (posts(post(1, "a"), '<row Id="2" PostTypeId="1" Body="b\n', "c />\n"), 1, {"broken-line": 2}),
    "entities of its own": (posts(post(1, "&lol;"), post(2, "b")), 1, {"broken-line": 1}),
    "a document type": (posts('<!DOCTYPE a [<!ENTITY l "l">]>\n', post(2, "b")), 1, {"broken-line": 1}),
    "tags without end": (
        posts(*(post(n, unit * 9_000) for n, unit in enumerate(("&lt;a ", "&lt;!--", "&lt;![", "&lt;")))),
        4,
        {},
    ),
}


def write_good(place: Path) -> None:
    for number, text in enumerate(GOODS[:3]):
        (place / f"{number}.py").write_text(text)


def put(*makers: Callable[[Path], object]) -> Callable[[Path], object]:
    return in_order(write_good, *makers)


def open_socket(place: Path) -> None:
    here = os.getcwd()  # noqa: PTH109 - a socket's path is short
    os.chdir(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.py")
    os.chdir(here)


def nest_folders(place: Path) -> None:
    here = os.open(place, os.O_RDONLY)
    for _ in range(1_050):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def set_time(place: Path, seconds: int) -> None:
    os.utime(place / "0.py", ns=(seconds * 10**9, seconds * 10**9))


NOTEBOOK = b'{"cells": [{"cell_type": "code", "source": 3}, {"cell_type": {}}], "metadata": []}'
FOLDERS: dict[str, Case] = {
    "names that are not UTF-8": (
        put(
            lambda p: [
                Path(os.fsdecode(os.fsencode(p) + b"/" + name)).write_text(GOODS[3])
                for name in (b"caf\xe9.py", b"\xff\xfe.py")
            ]
        ),
        5,
        {},
    ),
    "two names that look alike once they are escaped": (
        put(
            lambda p: [
                Path(os.fsdecode(os.fsencode(p) + b"/" + name)).write_text(GOODS[3])
                for name in (b"a\xe9.py", b"a\\xe9.py")
            ]
        ),
        5,
        {},
    ),
    "names with an end of line": (put(lambda p: (p / "a\nb\tc.py").write_text(GOODS[3])), 4, {}),
    "a pipe": (put(lambda p: os.mkfifo(p / "a.py")), 3, {"not-a-file": 1}),
    "a socket": (put(open_socket), 3, {"not-a-file": 1}),
    "links to nothing, to themselves, to devices": (
        put(*(link(f"l{n}.py", to) for n, to in enumerate(("none", "l1.py", "/dev/zero", "..")))),
        3,
        {"link": 4},
    ),
    "a folder named as a file": (put(lambda p: (p / "a.json").mkdir()), 3, {}),
    "a checkout whose configuration is a pipe": (
        put(
            lambda p: (p / ".git").mkdir(),
            lambda p: os.mkfifo(p / ".git" / "config"),
            lambda p: os.mkfifo(p / ".git" / "HEAD"),
        ),
        3,
        {},
    ),
    "a checkout whose configuration is spaces": (
        put(
            lambda p: (p / ".git").mkdir(),
            lambda p: (p / ".git" / "config").write_text('[remote "origin"]\n' + " " * 60_000 + "=\nurl"),
        ),
        3,
        {},
    ),
    "a licence that is a pipe, a folder, a link": (
        put(
            lambda p: (p / ".git").mkdir(),
            lambda p: os.mkfifo(p / "LICENSE"),
            lambda p: (p / "LICENSE.d").mkdir(),
            lambda p: (p / "LICENSE.x").symlink_to("/dev/zero"),
        ),
        3,
        {"not-a-file": 1, "link": 1},
    ),
    "a .git that is a link to itself": (put(lambda p: (p / ".git").symlink_to(".git")), 3, {}),
    "notebooks that are none": (
        put(
            lambda p: [
                (p / f"{n}.ipynb").write_bytes(data)
                for n, data in enumerate((b"", b"[]", b"[" * 40_000, NOTEBOOK, b"\xff"))
            ]
        ),
        3,
        {"corrupt-file": 10},
    ),
    "times before the epoch and far behind": (
        put(lambda p: set_time(p, -(10**9)), lambda p: set_time(p, 2**33)),
        3,
        {},
    ),
}

CASES = {
    **{("jsonl", name): case for name, case in TABLES.items()},
    **{("parquet", name): case for name, case in PARQUET.items()},
    **{("archives", name): case for name, case in TARS.items()},
    **{("archives", f"zip: {name}"): case for name, case in ZIPS.items()},
    **{("wet", name): case for name, case in WARC.items()},
    **{("folder", name): case for name, case in FOLDERS.items()},
}


@pytest.fixture(autouse=True)
def limit_time() -> Iterator[None]:
    """Ends what hangs."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt(f"it took more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_of_a_malformed_input_the_good_documents_are_kept_and_the_rest_has_a_reason(
    kind: str, name: str, tmp_path: Path
) -> None:
    check(kind, tmp_path / "in", CASES[kind, name])


@pytest.mark.parametrize("name", POSTS)
def test_of_malformed_posts_the_good_ones_are_kept(name: str, tmp_path: Path) -> None:
    write, good, reasons = POSTS[name]
    write(tmp_path)

    documents = read("stackoverflow", tmp_path)

    assert sum(document.reason is None for document in documents) == good
    assert dict(Counter(document.reason for document in documents if document.reason)) == reasons


def test_every_byte_and_member_of_archives_is_kept_or_has_a_reason(tmp_path: Path) -> None:
    rng = random.Random(7)
    contents = {f"{n}.py": rng.randbytes(rng.randrange(2, 3_000)).hex().encode() for n in range(60)}
    for cut in (None, 40_000):
        data = tar(*((name, content, {}) for name, content in contents.items()))[:cut]
        (tmp_path / "a.tar").write_bytes(data)
        documents = read("archives", tmp_path)
        kept = {document.path: document.content for document in documents if document.reason is None}
        whole = 0
        place = 0
        for name, content in contents.items():  # by the format: a block for the header, then whole blocks
            place += 512 + -(-len(content) // 512) * 512
            whole += place <= len(data) + 511
            if name in kept:
                assert kept[name] == content
        assert len(kept) == (60 if cut is None else whole)
        assert [d.reason for d in documents if d.reason] == ([] if cut is None else ["corrupt-file"])


def test_every_member_of_a_zip_with_any_damaged_byte_is_kept_or_has_a_reason(tmp_path: Path) -> None:
    """One byte is changed at a time; the seven members that it is not in are kept, whatever it says."""
    rng = random.Random(11)
    contents = {f"{n}.py": rng.randbytes(300).hex().encode() for n in range(8)}
    data = zipped(*contents.items())
    places = [*range(40), *range(len(data) - 480, len(data)), *rng.sample(range(len(data)), 100)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 + rng.randrange(255)
        (tmp_path / "a.zip").write_bytes(bytes(changed))
        documents = read("archives", tmp_path)
        kept = [document for document in documents if document.reason is None]
        assert sum(document.content in contents.values() for document in kept) == len(kept)
        lost = 8 - len(kept)
        assert lost <= 1, (place, [(d.id, d.reason) for d in documents])
        assert lost <= sum(document.reason is not None for document in documents), place


def test_tars_of_any_damaged_byte_lose_what_has_a_reason_alone(tmp_path: Path) -> None:
    rng = random.Random(13)
    contents = {f"{n}.py": rng.randbytes(300).hex().encode() for n in range(8)}
    data = tar(*((name, content, {}) for name, content in contents.items()))
    for place in rng.sample(range(len(contents) * 1_536), 200):
        changed = bytearray(data)
        changed[place] ^= 1 + rng.randrange(255)
        (tmp_path / "a.tar").write_bytes(bytes(changed))
        documents = read("archives", tmp_path)
        well = sum(document.content in contents.values() for document in documents if document.reason is None)
        assert well >= 7, place
        if place % 1_536 < 512:  # of a header
            assert [document.reason for document in documents if document.reason] == ["corrupt-header"], place
            assert next(d.size for d in documents if d.reason) == 512 * 3


@pytest.mark.parametrize("packed", [False, True])
def test_every_page_of_a_damaged_file_is_kept_or_has_a_reason(tmp_path: Path, *, packed: bool) -> None:
    rng = random.Random(17)
    records = [record(f"page {n} " + "word " * rng.randrange(1, 9_000) + f"end {n}\n") for n in range(40)]
    for seed in range(20):
        rng = random.Random(seed)
        wrong = set(rng.sample(range(40), 5))
        parts = []
        for number, one in enumerate(records):
            before, _, rest = one.partition(b"Content-Length: ")
            digits, _, rest = rest.partition(b"\r\n")
            length = int(digits)
            stated = length + rng.choice([-60, -9, 7, 300, 60_000]) if number in wrong else length
            parts.append(before + b"Content-Length: %d\r\n" % stated + rest)
        data = b"".join(parts)
        (tmp_path / "a.wet").unlink(missing_ok=True)
        (tmp_path / ("a.wet.gz" if packed else "a.wet")).write_bytes(gzip.compress(data, 1) if packed else data)
        documents = read("wet", tmp_path)
        assert len(documents) == 40
        assert sum(d.reason == "corrupt-record" for d in documents) == len(wrong)


def test_bombs_end_early_and_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BOMB_BYTES", 1_000_000)
    zeros = gzip.compress(b"\n" * 9_000_000)
    for name in ("a.jsonl.gz", "a.wet.gz", "a.tar.gz"):
        (tmp_path / name).write_bytes(zeros)
    table = pa.table({"content": pa.array(["x" * 40_000] * 500).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    # Many members share the bytes of one.
    one = zipped(("a.py", b"\0" * 40_000))
    place = one.find(b"PK\1\2")
    entry = one[place : one.find(b"PK\5\6")]
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 3_000, 3_000, 3_000 * len(entry), place, 0)
    (tmp_path / "a.zip").write_bytes(one[:place] + entry * 3_000 + end)

    for kind in ("jsonl", "wet", "parquet", "archives"):
        documents = read(kind, tmp_path)
        assert [document.reason for document in documents][-1] == "archive-bomb", kind
    assert sum(document.reason == "archive-bomb" for document in read("archives", tmp_path)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
@pytest.mark.parametrize(
    ("mode", "reasons"), [(0o444, {"unreadable": 2}), (0o000, {"unreadable": 1}), (0o111, {"unreadable": 1})]
)
@pytest.mark.parametrize("kind", ["folder", "jsonl"])
def test_what_may_not_be_listed_or_entered_has_a_reason(
    kind: str, mode: int, reasons: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # nobody may not enter pytest's own
        place = Path(name)
        place.chmod(0o755)
        lines(ROWS[0])(place)
        (place / "locked").mkdir()
        for number in range(2):
            (place / "locked" / f"{number}.jsonl").write_text(json.dumps(ROWS[number]))
        (place / "locked").chmod(mode)
        os.seteuid(65_534)
        try:
            documents = read(kind, place)
        finally:
            os.seteuid(0)
        (place / "locked").chmod(0o755)

    assert sum(document.reason is None for document in documents) == 1
    assert dict(Counter(document.reason for document in documents if document.reason)) == reasons


def test_a_thousand_folders_in_one_another_are_read(tmp_path: Path) -> None:
    try:
        check("folder", tmp_path / "in", (put(nest_folders), 3, {}))
    finally:  # shutil, and so pytest, cannot remove them
        subprocess.run(["rm", "-rf", str(tmp_path / "in")], check=True)


def test_a_run_over_all_of_it_ends_well(tmp_path: Path) -> None:
    """Everything malformed in one folder, to the tables that are written."""
    place = tmp_path / "in"
    place.mkdir()
    for number, (write, _, _) in enumerate(case for (kind, _), case in CASES.items() if kind == "jsonl"):
        inner = place / str(number)
        inner.mkdir()
        write(inner)

    outcome = run(
        place,
        tmp_path / "out",
        kind="jsonl",
        near_duplicates=None,
        drops_exact_duplicates=False,
        max_file_bytes=MAX_BYTES,
    )

    good = sum(case[1] for (kind, _), case in CASES.items() if kind == "jsonl")
    reasons = sum((Counter(case[2]) for (kind, _), case in CASES.items() if kind == "jsonl"), Counter())
    counts = outcome.funnel.counts()
    assert counts["documents_after"] == good
    assert counts["dropped"] == dict(reasons)


def test_a_reader_that_fails_costs_its_unit_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from functools import partial\n"
        "from codeshell_hf.curate.sources import Document, list_whole_files\n"
        "def read(source, unit, *, max_bytes):\n"
        "    yield Document(unit.id, 'a.py', b'x = 1\\n', 6, 'python', stars=10**40)\n"
        "    raise RuntimeError('no more')\n"
        "SOURCE = partial(list_whole_files, suffixes=('.x',)), read\n"
    )
    for name in ("a.x", "b.x"):
        (tmp_path / name).write_text("-")

    documents = read(f"{tmp_path}/own.py:SOURCE", tmp_path)

    assert [document.reason for document in documents] == [None, "reader-failed"] * 2
    assert documents[0].stars is None


def test_a_full_disk_is_no_fault_of_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts(post(1, "a"))(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    with pytest.raises(OSError, match="No space left"):
        read("stackoverflow", tmp_path)


def test_tables_without_any_text_are_one_clear_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has no column content or text or code but x"):
        read("parquet", tmp_path)
