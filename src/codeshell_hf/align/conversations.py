"""Conversations: one reader, which says on which line something is wrong."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Conversation:
    """Turns of a user and an assistant.

    Args:
        messages: Each with `role` and `content`, the user first, taking turns, the assistant last.
        language: "en" or "zh", where it is said.
        tests: Python that holds the answer to its promise, where there is any.
    """

    messages: tuple[dict[str, str], ...]
    language: str | None = None
    tests: str | None = None


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Reads JSON Lines, one conversation a line, under `messages`.

    Args:
        path: The file.

    Yields:
        Conversations in their order.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is wrong; with the line's number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of JSON Lines") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; name a file of JSON Lines") from error
    found = False
    for number, line in enumerate(lines, 1):
        if line.strip():
            found = True
            yield parse_conversation(line, f"line {number} of {path}")
    if not found:
        raise DataError(f"{path} holds no conversation; write one JSON object with messages on each line")


def parse_conversation(line: str, place: str) -> Conversation:
    """Parses a conversation and checks its turns.

    Args:
        line: A JSON object.
        place: Where it stands, for the message.

    Returns:
        The conversation.

    Raises:
        DataError: If it is no conversation.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not JSON ({error.msg}); write one object a line") from error
    messages = values.get("messages") if isinstance(values, dict) else None
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{place} has no messages; write a list of turns with role and content")
    for index, message in enumerate(messages):
        _check_turn(message, ROLES[index % 2], f"turn {index + 1} on {place}")
    if messages[-1]["role"] != "assistant":
        raise DataError(f"{place} ends with the user; end with the assistant's answer")
    turns = tuple({"role": message["role"], "content": message["content"]} for message in messages)
    return Conversation(turns, values.get("language"), values.get("tests"))


def _check_turn(message: Any, expected: str, place: str) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ROLES:
        raise DataError(f"{place} has role {role!r}; use user or assistant")
    if role != expected:
        raise DataError(f"{place} is the {role}'s, but turns alternate and the user begins; make it the {expected}'s")
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        raise DataError(f"{place} is empty; write what the {role} says, or leave the conversation out")
