"""Reads the rows of data files: JSON Lines, JSON, Parquet, Arrow and CSV, each row with its place for errors."""

import codecs
import csv
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from lzma import LZMAError
from pathlib import Path

from ...errors import DataError
from .raw_files import ByteStream, decode_stream, list_columnar, open_bytes

Row = Mapping[str, object]
MAX_ROW_BYTES = 64 * 2**20
"""A longer row is refused, so that one line without an end cannot fill the memory."""
MAX_OBJECT_BYTES = 2**30  # of a file that is one object
BLOCK_BYTES = 2**20
CONTAINERS = ("data", "rows", "train", "examples", "items", "instances", "records", "samples", "dataset", "results")
ROW_LISTS = ("messages", "conversation", "conversations", "dialogue", "dialog", "turns", "chat", "contents")
SPACES = " \t\r\n,"
LONG_NUMBER = "has a number of over 4,300 digits; write it as a text"


@dataclass(frozen=True)
class RawRow:
    """A row before it is checked.

    Args:
        place: Such as "line 3 of a.jsonl".
        value: Bytes of a line that is not parsed yet, a value, or a `DataError` if the row cannot be read.
    """

    place: str
    value: object


def read_raw_rows(path: Path) -> Iterator[RawRow]:
    """Reads a file's rows one by one; blank lines are skipped.

    Raises:
        DataError: If the file cannot be read to its end.
    """
    try:
        if (rows := list_columnar(path)) is not None:
            yield from (RawRow(f"row {number} of {path}", row) for number, row in enumerate(rows, 1))
            return
        with open_bytes(path) as opened:
            stream = decode_stream(opened)
            if path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
                yield from _read_table(stream, path)
            else:
                yield from _read_json(stream, path)
    except (EOFError, zlib.error, LZMAError) as error:
        raise DataError(f"{path} is broken or cut off ({error}); write or download it again") from error
    except UnicodeError as error:
        raise DataError(f"{path} is not text in the encoding that it begins with ({error}); write UTF-8") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be read ({reason}); name a file of JSON Lines, JSON or Parquet") from error


def parse_row(row: RawRow) -> Row:
    """A row's object; a list of turns becomes an object with `messages`.

    Raises:
        DataError: If the row is not a JSON object, is not UTF-8, or has a key twice.
    """
    value = row.value
    if isinstance(value, DataError):
        raise DataError(f"{row.place} {value}") from value
    if isinstance(value, bytes):
        value = _parse_json(value, row.place)
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        value = {"messages": value}
    if not isinstance(value, dict):
        kind = {type(None): "null", bool: "a truth value", list: "a list", str: "a text"}.get(type(value), "a number")
        raise DataError(f"{row.place} is {kind} and no object; write one JSON object a line")
    return value["row"] if isinstance(value.get("row"), dict) and "row_idx" in value else value


def is_turn(value: object) -> bool:
    """Whether a value looks like one turn of a conversation, and not like a row."""
    return isinstance(value, dict) and not {"message_id", "parent_id"} & value.keys() and (
        {"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()
    )  # fmt: skip


def _parse_json(line: bytes, place: str) -> object:
    try:
        return decode_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place} is not UTF-8 text (byte {line[error.start]:#04x} at {error.start}); write it in UTF-8"
        ) from error
    except DataError as error:
        raise DataError(f"{place} {error}") from error


def decode_json(text: str) -> object:
    """Decodes a JSON text.

    Raises:
        DataError: Without a place, if it is not JSON, has a key twice, too long a number, or nests too deep.
    """
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON ({error.msg}, character {error.pos + 1}); write one object a line") from error
    except RecursionError as error:
        raise DataError("is nested too deep; leave the row out") from error
    except ValueError as error:
        raise DataError(LONG_NUMBER) from error
    return value


def _refuse_double_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise DataError(f"has the key {double!r} twice in one object; write it once")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_double_keys)


def _read_json(stream: ByteStream, path: Path) -> Iterator[RawRow]:
    """Tells JSON Lines from an array, an object over several lines, and objects one after the other."""
    lines = _list_lines(stream)
    first = next(lines, None)
    if first is None:
        return
    is_whole = first[1].endswith(b"\n")  # else the next line begins behind what is left of this one
    second = next(lines, None) if is_whole else None
    start = first[1].lstrip()
    if not is_whole and len(first[1]) >= MAX_ROW_BYTES and start.startswith((b"[", b"{")):
        yield from _read_values([first[1]], stream, path, first[0])
        return
    if not start.startswith((b"[", b"{")) or (start.startswith(b"{") and _is_one_line(first, second)):
        if second is None and (rows := _expand(first[1])) is not None:
            yield from _number(rows, path)
            return
        yield from _read_lines(chain([first], [second] if second else [], lines), path)
        return
    array = _parse_array(first[1]) if start.startswith(b"[") else None
    if array is not None:
        if second is None and not (array and all(map(is_turn, array))):
            yield from _number(array, path)
        else:
            yield from _read_lines(chain([first], [second] if second else [], lines), path)
        return
    ahead = [piece for _, piece in ([first, second] if second else [first])]
    yield from _read_values(ahead, stream, path, first[0])


def _is_one_line(first: tuple[int, bytes], second: tuple[int, bytes] | None) -> bool:
    """Whether the file is JSON Lines, perhaps with a broken first line, and not an object over several lines."""
    text = first[1].strip()
    return _is_json(text) or (text.endswith(b"}") and text != b"{}") or (
        second is not None and second[1].lstrip().startswith(b"{")
    )  # fmt: skip


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_array(line: bytes) -> list[object] | None:
    """The list on a line; `None` if it is not a list, or has a row to be refused, which is done row by row."""
    try:
        value = decode_json(line.decode("utf-8"))
    except (UnicodeDecodeError, DataError):
        return None
    return value if isinstance(value, list) else None


def _list_lines(stream: ByteStream) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; of a line that is too long, its start."""
    number = 0
    while line := stream.readline(MAX_ROW_BYTES):
        number += 1
        if line.strip():
            yield number, line
        while not line.endswith(b"\n") and len(line) >= MAX_ROW_BYTES:
            line = stream.readline(MAX_ROW_BYTES)  # the rest of a line that is too long


def _read_lines(lines: Iterable[tuple[int, bytes]], path: Path) -> Iterator[RawRow]:
    for number, line in lines:
        place = f"line {number} of {path}"
        if len(line) >= MAX_ROW_BYTES:
            yield RawRow(place, DataError(f"has over {MAX_ROW_BYTES // 2**20} MiB; split it, or leave it out"))
        else:
            yield RawRow(place, line)


def _read_values(ahead: list[bytes], stream: ByteStream, path: Path, first_line: int) -> Iterator[RawRow]:
    """Values of an array or one after the other, parsed as they come; the memory holds one at a time."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    text = decode(b"".join(ahead)).lstrip(SPACES + "\ufeff")
    is_array = text.startswith("[")
    text = text.removeprefix("[") if is_array else text
    limit = MAX_ROW_BYTES if is_array else MAX_OBJECT_BYTES
    line, found = first_line, 0
    only: object = None
    while True:
        skipped = len(text) - len(text.lstrip(SPACES))
        line += text.count("\n", 0, skipped)
        text = text[skipped:]
        if is_array and text.startswith("]"):
            break
        value, end = _decode_start(text)
        # A number or a word may go on behind what was read, an object not.
        if end is None or (end == len(text) and not text.endswith(("}", "]", '"'))):
            block = stream.read(max(BLOCK_BYTES, len(text))) if len(text) < limit else b""
            if not block:
                if not text.strip() and not is_array:
                    break
                raise DataError(_explain_end(text, path, line, limit))
            text += decode(block)
            continue
        found += 1
        if not is_array and found == 1:
            only = value
        elif not is_array and found == 2:
            yield RawRow(f"item 1 of {path}", only)
        if is_array or found > 1:
            yield RawRow(f"item {found} (line {line}) of {path}", value)
        line += text.count("\n", 0, end)
        text = text[end:]
    if not is_array and found == 1:
        yield from _number(_find_inner_rows(only) or [only], path)


def _decode_start(text: str) -> tuple[object, int | None]:
    """The value at the start of a text and its length, or a `DataError` in its place; no length if none is complete."""
    if not text:
        return None, None
    try:
        return _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        return None, None
    except RecursionError:
        return None, None
    except (DataError, ValueError) as error:
        refused = error if isinstance(error, DataError) else DataError(LONG_NUMBER)
        try:
            return refused, json.JSONDecoder(parse_int=str).raw_decode(text)[1]
        except json.JSONDecodeError:
            return None, None


def _explain_end(text: str, path: Path, line: int, limit: int) -> str:
    if len(text) >= limit:
        return f"{path} has no complete row in {limit // 2**20} MiB from line {line}; write JSON Lines"
    try:
        _DECODER.raw_decode(text)
        reason, line = "the list has no end", line + text.count("\n")
    except json.JSONDecodeError as error:
        reason, line = error.msg, line + error.lineno - 1
    except RecursionError:
        reason = "it is nested too deep"
    return (
        f"{path} is not JSON from line {line} on ({reason}); mend it there, or write JSON Lines, of which only a bad "
        "row is left out"
    )


def _number(rows: Iterable[object], path: Path) -> Iterator[RawRow]:
    for number, row in enumerate(rows, 1):
        yield RawRow(f"item {number} of {path}", row)


def _expand(line: bytes) -> list[object] | None:
    """Rows of an object that holds all of them, on the only line of a file."""
    try:
        return _find_inner_rows(decode_json(line.decode("utf-8")))
    except (UnicodeDecodeError, DataError):
        return None


def _find_inner_rows(value: object) -> list[object] | None:
    """Rows in an object: a list of them under one key, an object of them, or columns; `None` if it is a row itself."""
    if not isinstance(value, dict) or not value:
        return None
    lists = [inner for inner in value.values() if isinstance(inner, list) and inner]
    for name, inner in value.items():
        may_hold_rows = (len(value) == 1 or name in CONTAINERS) and name not in ROW_LISTS
        if may_hold_rows and isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            return None if all(map(is_turn, inner)) else list(inner)
    if len(value) > 1 and all(isinstance(inner, dict) and not is_turn(inner) for inner in value.values()):
        keys = [set(inner) for inner in value.values()]
        return list(value.values()) if set.intersection(*keys) else None
    if len(value) > 1 and len(lists) == len(value) and len({len(rows) for rows in lists}) == 1:
        if any(all(map(is_turn, rows)) for rows in lists):
            return None
        return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
    return None


def _read_table(stream: ByteStream, path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ROW_BYTES)
    text = io.StringIO(stream.read().decode("utf-8", "surrogateescape"), newline="")
    separator = "\t" if ".tsv" in path.name.lower() else ","
    try:
        for number, values in enumerate(csv.DictReader(text, delimiter=separator), 1):
            place = f"row {number} of {path}"
            has_gaps = None in values or None in values.values()
            reason = "has another number of columns than the first line; quote texts with commas"
            yield RawRow(place, DataError(reason) if has_gaps else values)
    except csv.Error as error:
        raise DataError(f"{path} is broken CSV ({error}); write JSON Lines") from error
