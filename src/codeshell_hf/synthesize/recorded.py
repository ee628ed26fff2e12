"""Reads replies that were recorded before, so that a run needs no model."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import DataError
from ..text.replies import Reply, repair_text
from .settings import WrittenIn
from .task_pool import AskedTask

FORM = "write reply, and if known written_in, seed, finish_reason and answers"


def read_recorded(path: Path) -> Iterator[AskedTask]:
    """Reads the replies of a file of JSON Lines.

    Each row has `reply`, and may have `written_in` ("en" by default), `seed` (the snippet), `licence`, `finish_reason`
    and `answers`, further answers to the problem.

    Raises:
        DataError: If the file cannot be read, or a row has another form.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of JSON Lines with replies") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _read_line(line, f"{path.as_posix()}:{number}", f"line {number} of {path}")


def _read_line(line: bytes, name: str, place: str) -> AskedTask:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not JSON in UTF-8 ({error}); {FORM}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place} is no object; {FORM}")
    written_in: WrittenIn = "zh" if row.get("written_in") == "zh" else "en"
    if row.get("written_in", "en") not in ("en", "zh"):
        raise DataError(f"{place} has written_in {row['written_in']!r}; write en or zh")
    answers = row.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise DataError(f"{place} has answers that are no list of texts; {FORM}")
    return AskedTask(
        id=name,
        source=name,
        licence=_read_text(row, "licence", place),
        written_in=written_in,
        seed_text=_read_text(row, "seed", place) or "",
        reply=Reply(_need_text(row, "reply", place), _read_text(row, "finish_reason", place)),
        answers=tuple(Reply(repair_text(one), "stop") for one in answers),
    )


def _read_text(row: Mapping[str, object], name: str, place: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{place} has {name} {str(value)[:40]!r}, which is no text; {FORM}")
    return None if value is None else repair_text(value)


def _need_text(row: Mapping[str, object], name: str, place: str) -> str:
    value = _read_text(row, name, place)
    if value is None:
        raise DataError(f"{place} has no {name}; {FORM}")
    return value
