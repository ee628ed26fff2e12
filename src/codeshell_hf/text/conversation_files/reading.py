"""Reads files of conversations: rows in any form, with what was dropped, changed and refused on the way."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ...errors import DataError
from ..chat import Conversation
from ..settings import Reading
from .conversations import build_conversation
from .findings import Findings
from .forms import Draft, read_draft
from .raw_files import find_files
from .rows import RawRow, Row, parse_row, read_raw_rows
from .trees import Thread, is_message, is_tree, join_messages, read_tree

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConversationSet:
    """Conversations, and what was found while reading them."""

    conversations: list[Conversation]
    findings: Findings


def read_conversation_set(
    places: Iterable[str | Path], reading: Reading, *, needs_answer: bool = True
) -> ConversationSet:
    """Reads all conversations of files, folders and the Hub.

    Args:
        places: In order; what `find_files` takes.
        reading: The form, the number of bad rows that are allowed, and what to do with tools and reasoning.
        needs_answer: Whether conversations end with an answer to learn from; prompts do not need one.

    Raises:
        DataError: If a file cannot be read, more rows are bad than allowed, or a file has no conversation.
    """
    findings = Findings()
    conversations: list[Conversation] = []
    for place in places:
        own = Findings()
        found = list(_read_place(place, reading, own, findings.bad_rows, needs_answer=needs_answer))
        if not found:
            raise DataError(explain_nothing(place, own))
        conversations += found
        findings.extend(own)
    return ConversationSet(conversations, findings)


def explain_nothing(place: str | Path, findings: Findings) -> str:
    """A message for a place in which there is no conversation."""
    return (
        f"{place} holds no conversation {findings.explain_nothing()}; write one JSON object a line, with messages or "
        "with prompt and completion"
    )


def read_conversations(place: str | Path, reading: Reading | None = None) -> Iterator[Conversation]:
    """Reads the conversations of one file or folder one by one; raises as `read_conversation_set` does.

    Rows that are left out or changed are logged at the end, as warnings.
    """
    findings = Findings()
    is_empty = True
    for conversation in _read_place(place, reading or Reading(), findings, 0, needs_answer=True):
        is_empty = False
        yield conversation
    if is_empty:
        raise DataError(explain_nothing(place, findings))
    for line in findings.describe()[1:]:
        logger.warning("%s: %s", place, line)


def _read_place(
    place: str | Path, reading: Reading, findings: Findings, bad_before: int, *, needs_answer: bool
) -> Iterator[Conversation]:
    for row in list_place_rows(place, reading, findings):
        yield from read_row(row, reading, findings, needs_answer=needs_answer)
        findings.check(reading.max_bad_rows, before=bad_before)


def list_place_rows(place: str | Path, reading: Reading, findings: Findings) -> Iterator["RawRow | PlacedThread"]:
    """The rows of all files of a place; the messages of trees, which stand in rows of their own, as threads."""
    found = find_files(place)
    findings.left_out += found.left_out
    for path in found.files:
        rows = read_raw_rows(path)
        first = next(rows, None)
        if first is None:
            continue
        together = chain([first], rows)
        if reading.format in ("auto", "oasst") and _is_message(first):
            yield from _join_rows(together, findings)
        else:
            yield from together


@dataclass(frozen=True)
class PlacedThread:
    """A thread of a tree of messages, and the place of its first message."""

    place: str
    thread: Thread


def _is_message(row: RawRow) -> bool:
    try:
        return is_message(parse_row(row))
    except DataError:
        return False


def _join_rows(rows: Iterable[RawRow], findings: Findings) -> Iterator[PlacedThread]:
    parsed: list[tuple[str, Row]] = []
    for raw in rows:
        try:
            row = parse_row(raw)
            if not is_message(row):
                raise DataError(f"{raw.place} is not a message of a tree, as rows before; write it into another file")
            parsed.append((raw.place, row))
        except DataError as error:
            findings.refuse(error)
    for place, thread in join_messages(parsed, findings):
        yield PlacedThread(place, thread)


def read_row(
    row: RawRow | PlacedThread, reading: Reading, findings: Findings, *, needs_answer: bool
) -> list[Conversation]:
    """The conversations of a row, of which a tree has several; a bad row is counted and has none."""
    try:
        if isinstance(row, PlacedThread):
            one = _build_thread(row.thread, row.place, reading, findings, needs_answer=needs_answer)
            built: Sequence[Conversation | None] = [one]
        else:
            built = _read_values(parse_row(row), row.place, reading, findings, needs_answer=needs_answer)
    except DataError as error:
        findings.refuse(error)
        return []
    return [conversation for conversation in built if conversation is not None]


def _read_values(
    values: Row, place: str, reading: Reading, findings: Findings, *, needs_answer: bool
) -> Sequence[Conversation | None]:
    if reading.format in ("auto", "oasst") and is_tree(values):
        threads = read_tree(values, place, findings)
        return [_build_thread(one, place, reading, findings, needs_answer=needs_answer) for one in threads]
    draft = read_draft(values, place, reading.format, findings)
    built = build_conversation(draft, values, place, reading, findings, needs_answer=needs_answer, thread=None)
    return [built]


def _build_thread(
    thread: Thread, place: str, reading: Reading, findings: Findings, *, needs_answer: bool
) -> Conversation | None:
    findings.forms["oasst"] += 1
    draft = Draft(thread.turns, frozenset())
    return build_conversation(draft, {}, place, reading, findings, needs_answer=needs_answer, thread=thread.tree)


def parse_conversation(values: Row, place: str, reading: Reading | None = None) -> Conversation:
    """Parses one row's object; `place` names it in errors.

    Raises:
        DataError: If there is not one conversation in it.
    """
    findings = Findings()
    found = [one for one in _read_values(values, place, reading or Reading(), findings, needs_answer=True) if one]
    if len(found) != 1:
        raise DataError(f"{place} holds no conversation {findings.explain_nothing()}; write a question and an answer")
    return found[0]
