"""Rows of files: containers, compressions, encodings, and what is broken in each."""

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from codeshell_hf.errors import DataError
from codeshell_hf.text.conversation_files import rows as rows_module
from codeshell_hf.text.conversation_files.rows import parse_row, read_raw_rows

ROWS = [{"prompt": "a", "completion": "é\u2028\U0001f600"}, {"prompt": "b", "completion": "}\n{"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(path: Path) -> list[object]:
    return [parse_row(row) for row in read_raw_rows(path)]


def compress_zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


WRITTEN: dict[str, bytes] = {
    "lines": LINES.encode(),
    "lines in UTF-8": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "without a last end": LINES.strip().encode(),
    "blank lines": ("\n" + LINES.replace("\n", "\n \n")).encode(),
    "line ends of Windows": LINES.replace("\n", "\r\n").encode(),
    "a byte-order mark": LINES.encode("utf-8-sig"),
    "UTF-16 with a mark": LINES.encode("utf-16"),
    "UTF-16 of the other order": b"\xfe\xff" + LINES.encode("utf-16-be"),
    "UTF-16 without a mark": LINES.encode("utf-16-le"),
    "UTF-32": LINES.encode("utf-32"),
    "an array": json.dumps(ROWS).encode(),
    "an indented array": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "an array in UTF-16": json.dumps(ROWS, indent=1).encode("utf-16"),
    "an array with a last comma": (json.dumps(ROWS, indent=1)[:-2] + ",\n]").encode(),
    "an array, a row a line": ("[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]").encode(),
    "indented objects": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "rows under a key": json.dumps({"version": 1, "data": ROWS}).encode(),
    "rows under a key, indented": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "rows by id": json.dumps({"x1": ROWS[0], "x2": ROWS[1]}, indent=1).encode(),
    "columns": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode(),
    "the viewer's rows": json.dumps({"rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)]}).encode(),
    "gzip": gzip.compress(LINES.encode()),
    "zstd": compress_zstd(LINES.encode()),
    "zstd in two frames": b"".join(compress_zstd(line.encode()) for line in LINES.splitlines(keepends=True)),
    "bzip2": bz2.compress(LINES.encode()),
    "xz": lzma.compress(LINES.encode()),
}


@pytest.mark.parametrize("data", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows"])
def test_rows_are_the_same_however_they_are_stored(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)

    assert read(tmp_path / name) == ROWS


def test_tables_have_rows(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "rows.bin")
    with pyarrow.OSFile(str(tmp_path / "stream"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pyarrow.OSFile(str(tmp_path / "file"), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "rows.csv").write_text('prompt,completion\na,"x, ""y""\nz"\n')
    (tmp_path / "rows.tsv").write_text("prompt\tcompletion\na\tx\n")

    assert [read(tmp_path / name) for name in ("rows.bin", "stream", "file")] == [ROWS] * 3
    assert read(tmp_path / "rows.csv") == [{"prompt": "a", "completion": 'x, "y"\nz'}]
    assert read(tmp_path / "rows.tsv") == [{"prompt": "a", "completion": "x"}]


ONE_ROW = {
    "a list of objects beside its texts": {"query": "q", "response": "r", "history": [{"user": "a", "assistant": "b"}]},
    "annotated": {"messages": [{"role": "user", "content": "q"}], "tags": [{"name": "x"}]},
    "one row on a line": {"messages": [{"role": "user", "content": "q"}]},
    "a conversation of exchanges": {"conversation": [{"input": "q", "output": "r"}]},
    "an indented row": {"id": {"a": 1}, "tags": ["x"]},
    "ranked answers": {"prompt": "q", "answers": [{"answer": "a", "rank": 1}]},
    "turns on both sides": {"prompt": {"role": "user", "content": "q"}, "completion": {"role": "user", "content": "r"}},
    "lists of one length": {
        "prompt": [{"role": "user", "content": "q"}],
        "completion": [{"from": "gpt", "value": "r"}],
    },
}


@pytest.mark.parametrize("row", ONE_ROW.values(), ids=ONE_ROW)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_row_is_not_taken_for_a_file_of_rows(tmp_path: Path, row: object, indent: int | None) -> None:
    (tmp_path / "row.json").write_text(json.dumps(row, indent=indent))

    assert read(tmp_path / "row.json") == [row]


def test_lists_of_turns_are_conversations(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
    (tmp_path / "lines").write_text(f"{json.dumps(turns)}\n{json.dumps(turns)}\n")
    (tmp_path / "array").write_text(json.dumps([turns, turns], indent=1))
    (tmp_path / "alone").write_text(json.dumps(turns))

    assert read(tmp_path / "lines") == read(tmp_path / "array") == [{"messages": turns}] * 2
    assert read(tmp_path / "alone") == [{"messages": turns}]


BAD_LINES = {
    "cut off": (b'{"prompt": "a"', "is not JSON"),
    "trailing text": (b'{"prompt": "a"} x', "is not JSON (Extra data, character 17); write one object a line"),
    "latin-1": (b'{"prompt": "caf\xe9"}', "is not UTF-8 text (byte 0xe9 at 15); write it in UTF-8"),
    "a key twice": (b'{"prompt": "a", "prompt": "b"}', "has the key 'prompt' twice in one object; write it once"),
    "a huge number": (b'{"id": ' + b"9" * 5000 + b"}", "has a number of over 4,300 digits; write it as a text"),
    "deep": (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "is nested too deep; leave the row out"),
    "null": (b"null", "is null and no object; write one JSON object a line"),
    "a text": (b'"x"', "is a text and no object"),
    "a number": (b"3", "is a number and no object"),
    "words": (b"# a comment", "is not JSON (Expecting value"),
    "a NUL": (b'{"prompt": "a\0"}', "is not JSON (Invalid control character"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_is_refused_alone_with_its_number(tmp_path: Path, line: bytes, message: str, place: int) -> None:
    lines = [b'{"prompt": "a"}', b'{"prompt": "b"}']
    lines.insert(place, line)
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    raw = list(read_raw_rows(tmp_path / "rows.jsonl"))

    assert [parse_row(row) for number, row in enumerate(raw) if number != place] == [{"prompt": "a"}, {"prompt": "b"}]
    with pytest.raises(DataError) as error:
        parse_row(raw[place])
    assert str(error.value).startswith(f"line {place + 1} of {tmp_path / 'rows.jsonl'} {message}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-0.0", "1" * 4000])
def test_numbers_of_any_size_are_read(tmp_path: Path, number: str) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{{"prompt": "a", "score": {number}}}\n')

    assert len(read(tmp_path / "rows.jsonl")) == 1


def test_bad_rows_of_an_array_are_refused_alone(tmp_path: Path) -> None:
    rows = [b'{"a": 1}', b'{"b": 2, "b": 3}', b'{"c": ' + b"9" * 5000 + b"}", b'{"d": "\xe9"}', b"7", b'{"e": 5}']
    (tmp_path / "rows.json").write_bytes(b"[\n" + b",\n".join(rows) + b"\n]")

    raw = list(read_raw_rows(tmp_path / "rows.json"))

    assert [parse_row(raw[number]) for number in (0, 3, 5)] == [{"a": 1}, {"d": "\udce9"}, {"e": 5}]
    reasons = []
    for number in (1, 2, 4):
        with pytest.raises(DataError) as error:
            parse_row(raw[number])
        reasons.append(str(error.value))
    assert [reason.split(" has ")[0].split(" is ")[0] for reason in reasons] == [
        f"item {number} (line {number + 1}) of {tmp_path / 'rows.json'}" for number in (2, 3, 5)
    ]
    assert "key 'b' twice" in reasons[0]
    assert "4,300 digits" in reasons[1]
    assert "a number and no object" in reasons[2]


def test_a_bad_row_of_an_array_on_one_line_is_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(b'[{"a": 1}, {"b": 2, "b": 3}, {"c": "\xe9"}, {"d": 4}]')

    raw = list(read_raw_rows(tmp_path / "rows.json"))

    assert [parse_row(raw[number]) for number in (0, 2, 3)] == [{"a": 1}, {"c": "\udce9"}, {"d": 4}]
    with pytest.raises(DataError, match=r"item 2 .* has the key 'b' twice"):
        parse_row(raw[1])


BROKEN: dict[str, tuple[bytes, str]] = {
    "an array that is cut off": (json.dumps(ROWS, indent=1).encode()[:-20], "is not JSON from line .* on .*; mend it"),
    "an array without an end": (b'[\n{"a": 1},\n{"a": 2}\n', r"is not JSON from line 4 on \(Expecting value\)"),
    "a wrong row in an array": (b'[\n{"a": 1},\n{"a": oops},\n{"a": 2}\n]', r"is not JSON from line 3 on .*mend it"),
    "an open object": (b'{\n"a": 1,\n', "is not JSON from line"),
    "gzip that is cut off": (gzip.compress(LINES.encode() * 999)[:-9], "is broken or cut off .*download it again"),
    "gzip with a flipped byte": (gzip.compress(LINES.encode())[:-8] + b"\0" * 8, "cannot be read .*|broken or cut off"),
    "half of UTF-16": ("\ufeff".encode("utf-16-le") + LINES.encode("utf-16-le")[:-3], "is not text in the encoding"),
    "a ZIP archive": (b"PK\x03\x04...", "is a ZIP archive; unpack it"),
    "a broken table": (b"PAR1....PAR1", "is a broken Parquet file .*; write or download it again"),
    "a broken stream": (b"\xff\xff\xff\xff\x10\0\0\0", "is a broken Arrow file .*; save it again"),
    "a deep array": (b"[" * 200_000, "is not JSON|nested too deep"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_broken_as_a_whole_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "rows.json").write_bytes(data)

    with pytest.raises(DataError, match=message):
        read(tmp_path / "rows.json")


@pytest.mark.parametrize("data", [b"", b"\n \n", b"[]", b"\xef\xbb\xbf", b"\xff\xfe", gzip.compress(b"", mtime=0)])
def test_a_file_without_rows_has_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(data)

    assert read(tmp_path / "rows.jsonl") == []


def test_columns_of_another_number_are_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b\na,b,c\na\n")

    raw = list(read_raw_rows(tmp_path / "rows.csv"))

    assert parse_row(raw[0]) == {"prompt": "a", "completion": "b"}
    for row in raw[1:]:
        with pytest.raises(DataError, match="has another number of columns than the first line; quote"):
            parse_row(row)


def test_a_line_without_an_end_is_refused_and_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROW_BYTES", 2**20)
    with (tmp_path / "rows.jsonl").open("wb") as file:
        file.write(b'{"a": 1}\n{"a": "')
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"a": 3}\n')
    tracemalloc.start()

    raw = list(read_raw_rows(tmp_path / "rows.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [row.place.split()[1] for row in raw] == ["1", "2", "3"]
    assert parse_row(raw[2]) == {"a": 3}
    with pytest.raises(DataError, match=r"line 2 of .* has over 1 MiB; split it, or leave it out"):
        parse_row(raw[1])
    assert peak < 8 * 2**20


@pytest.mark.parametrize("dump", [json.dumps, lambda rows: json.dumps(rows, indent=1)])
def test_an_array_is_read_a_row_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dump: Callable[[object], str]
) -> None:
    """20 MB of rows in less than 6 MB."""
    monkeypatch.setattr(rows_module, "MAX_ROW_BYTES", 2**20)
    (tmp_path / "rows.json").write_text(dump([{"prompt": "x" * 10_000, "n": n} for n in range(2000)]))
    tracemalloc.start()

    total = 0
    for row in read_raw_rows(tmp_path / "rows.json"):
        total += int(str(parse_row(row)["n"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert total == 2000 * 1999 // 2
    assert peak < 6 * 2**20
