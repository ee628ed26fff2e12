"""Malformed inputs of many kinds: each keeps what is well, and names what is not."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.curate.sources.test_hostile import (
    GOODS,
    ROWS,
    TWO,
    Case,
    check,
    good_member,
    header,
    limit_time,
    lines,
    read,
    tar,
    with_text,
    write_as,
)

assert limit_time  # a fixture, which ends what hangs


def page(content: bytes, *, length: int | str | None = -1, version: str = "WARC/1.0", **fields: str) -> bytes:
    """A record of a web page's text; its length is the true one unless another, or none, is given."""
    stated = len(content) if length == -1 else length
    lines_of = [version, "WARC-Type: conversion", "WARC-Target-URI: http://a.org/x", "Content-Type: text/plain"]
    lines_of += [f"{name}: {value}" for name, value in fields.items()]
    lines_of += [f"Content-Length: {stated}"] if stated is not None else []
    return "\r\n".join(lines_of).encode() + b"\r\n\r\n" + content + b"\r\n\r\n"


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, GOODS[number])
    return out.getvalue()


class Pipe(io.RawIOBase):
    """What cannot be wound back, so that sizes stand behind the members."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


def streamed(*names: str) -> bytes:
    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, GOODS[number])
    return out.data


def change(data: bytes, signature: bytes, offset: int, value: bytes, *, nth: int = 0) -> bytes:
    """Bytes with others at an offset behind the nth place of a signature."""
    place = -1
    for _ in range(nth + 1):
        place = data.index(signature, place + 1)
    return data[: place + offset] + value + data[place + offset + len(value) :]


ZIP = zipped("0.py", "1.py", "2.py")
PAGES = [page(good.encode()) for good in GOODS]
TABLE = pa.table({"content": GOODS[:3]})


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


ONE = tar(good_member(0))
MALFORMED: dict[tuple[str, str], Case] = {
    ("archives", "a size below zero in base 256"): (
        write_as("a.tar", TWO[:1024] + header(b"0", 0, b"c.py")[:124] + b"\xff" * 12 + b"\0" * 376 + TWO[1024:]),
        3,
        {"corrupt-header": 1},
    ),
    ("archives", "names that climb"): (
        write_as("a.tar", tar(("../../etc/a.py", GOODS[0].encode(), {}), ("/abs/b.py", GOODS[1].encode(), {}))),
        0,
        {"unsafe-path": 2},
    ),
    ("archives", "gzip in two members"): (
        write_as("a.tar.gz", gzip.compress(TWO[:1500]) + gzip.compress(TWO[1500:])),
        3,
        {},
    ),
    ("archives", "a name twice"): (
        write_as("a.tar", tar(("a.py", GOODS[0].encode(), {}), ("a.py", GOODS[1].encode(), {}))),
        2,
        {},
    ),
    ("archives", "a long name without a member"): (
        write_as("a.tar", ONE[:1024] + header(b"L", 4) + b"abc\0".ljust(512, b"\0") + b"\0" * 1024),
        1,
        {},
    ),
    ("archives", "zip: sizes behind the members"): (write_as("a.zip", streamed("0.py", "1.py", "2.py")), 3, {}),
    ("archives", "zip: an unknown method"): (
        write_as("a.zip", change(change(ZIP, b"PK\1\2", 10, b"\x63\0"), b"PK\3\4", 8, b"\x63\0")),
        2,
        {"unsupported-compression": 1},
    ),
    ("archives", "zip: an encrypted member"): (
        write_as("a.zip", change(change(ZIP, b"PK\1\2", 8, b"\1\0", nth=1), b"PK\3\4", 6, b"\1\0", nth=1)),
        2,
        {"encrypted": 1},
    ),
    ("archives", "zip: a program before it"): (write_as("a.zip", b"#!/bin/sh\n" + b"x" * 9000 + ZIP), 3, {}),
    ("archives", "zip: a comment that looks like an end"): (
        write_as("a.zip", ZIP[:-2] + struct.pack("<H", 30) + b"PK\5\6" + b"\0" * 26),
        3,
        {},
    ),
    ("archives", "zip: an empty list behind the true one"): (
        write_as("a.zip", ZIP + b"PK\5\6" + b"\0" * 18),
        3,
        {"corrupt-file": 1},
    ),
    ("archives", "zip: no list of members"): (
        write_as("a.zip", ZIP[: ZIP.index(b"PK\1\2")]),
        3,
        {"corrupt-file": 1},
    ),
    ("wet", "a length below zero"): (
        write_as("a.warc.wet", PAGES[0] + page(b"x y z", length="-5") + PAGES[1]),
        2,
        {"corrupt-record": 1},
    ),
    ("wet", "no length"): (
        write_as("a.warc.wet", PAGES[0] + page(b"x y z", length=None) + PAGES[1]),
        2,
        {"corrupt-record": 1},
    ),
    ("wet", "another version with names in small letters"): (
        write_as(
            "a.warc.wet",
            PAGES[0] + page(GOODS[1].encode(), version="WARC/1.1").replace(b"Content-Length", b"content-length"),
        ),
        2,
        {},
    ),
    ("wet", "gzip for each page, with zeros behind"): (
        write_as("a.warc.wet.gz", b"".join(map(gzip.compress, PAGES[:3])) + b"\0" * 512),
        3,
        {},
    ),
    ("wet", "a header line of a megabyte"): (
        write_as("a.warc.wet", PAGES[0] + page(b"x y z", **{"X-Long": "y" * 1_000_000}) + PAGES[1]),
        2,
        {"corrupt-record": 1},
    ),
    ("parquet", "an encrypted footer"): (
        write_as("a.parquet", b"PARE" + parquet(TABLE)[4:-4] + b"PARE"),
        0,
        {"corrupt-file": 1},
    ),
    ("parquet", "a file cut short"): (write_as("a.parquet", parquet(TABLE)[:-20]), 0, {"corrupt-file": 1}),
    ("parquet", "a column of lists"): (
        write_as("a.parquet", parquet(pa.table({"content": [["a"], ["b"]]}))),
        0,
        {"no-text": 2},
    ),
    ("parquet", "a damaged page"): (
        write_as("a.parquet", parquet(TABLE)[:20] + b"\xff" * 40 + parquet(TABLE)[60:]),
        0,
        {"corrupt-file": 1},
    ),
    ("jsonl", "UTF-16"): (
        write_as("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS[:2]).encode("utf-16")),
        0,
        {"broken-line": 3},
    ),
    ("jsonl", "line ends of DOS, and empty lines"): (
        write_as("a.jsonl", b"\r\n\r\n".join(json.dumps(row).encode() for row in ROWS[:3]) + b"\r\n"),
        3,
        {},
    ),
    ("jsonl", "a list of all rows in one line"): (
        write_as("a.jsonl", json.dumps(ROWS[:2]).encode()),
        0,
        {"broken-line": 1},
    ),
    ("jsonl", "half a character in the text"): (
        lines(b'{"content": "a = 1 # \\ud83d\\n", "path": "a.py"}', ROWS[0]),
        1,
        {},
    ),
    ("jsonl", "commas between the lines"): (
        write_as("a.jsonl", b",\n".join(json.dumps(row).encode() for row in ROWS[:2])),
        1,
        {"broken-line": 1},
    ),
    ("jsonl", "a field of five hundred levels"): (lines(with_text(meta=json.loads("[" * 500 + "]" * 500))), 1, {}),
}


@pytest.mark.parametrize(("kind", "name"), MALFORMED)
def test_of_malformed_inputs_of_other_kinds_the_good_documents_are_kept(kind: str, name: str, tmp_path: Path) -> None:
    check(kind, tmp_path / "in", MALFORMED[kind, name])


def _damage(name: str) -> Callable[[Path], object]:
    def damage(git: Path) -> None:
        target = git / name
        if name == "HEAD":
            target.unlink()
            target.mkdir()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"\xff\0garbage\n" * 50)

    return damage


@pytest.mark.parametrize("name", ["HEAD", "packed-refs", "index", "objects/info/alternates", "shallow", "config"])
def test_a_checkout_with_a_damaged_file_of_git_keeps_its_files(name: str, tmp_path: Path) -> None:
    git = tmp_path / "in" / ".git"
    for folder in ("objects/pack", "refs/heads"):
        (git / folder).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text("[core]\n\trepositoryformatversion = 0\n")
    _damage(name)(git)
    (tmp_path / "in" / "a.py").write_text(GOODS[0])

    files = [document for document in read("folder", tmp_path / "in") if document.reason is None]
    commits = read("commits", tmp_path / "in")

    assert [document.content.decode() for document in files] == [GOODS[0]]
    assert all(document.reason is not None for document in commits)
