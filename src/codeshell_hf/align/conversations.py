"""Conversations: one reader for the three ways they are written, which says on which line something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..text.chat import Conversation, Message

ROLES = ("user", "assistant")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
KINDS = ("chat", "copilot")


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Reads JSON Lines, one conversation a line.

    A line has `messages` (role and content, as in ChatML), or `prompt` and `completion` (texts or messages), or
    `conversations` (from and value, as the released CodeShell models are tuned). A first turn of the system's is put
    before the first question, since the chat format has no place of its own for it. With `"type": "copilot"` the turns
    are raw code, in which `<fim_prefix>`, `<fim_suffix>` and `<fim_middle>` mark a place to fill in.

    Args:
        path: The file.

    Yields:
        Conversations in their order.

    Raises:
        DataError: If the file cannot be read, holds nothing, or a line is wrong; with the line's number.
    """
    found = False
    for number, values in read_json_lines(path):
        found = True
        yield parse_conversation(values, f"line {number} of {path}")
    if not found:
        raise DataError(f"{path} holds no conversation; write one JSON object with messages on each line")


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Reads the objects of a file of JSON Lines; blank lines are passed over.

    Args:
        path: The file.

    Yields:
        The line's number, from 1, and its object.

    Raises:
        DataError: If the file cannot be read or a line is no object; with the line's number.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of JSON Lines") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; name a file of JSON Lines") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number} of {path} is not JSON ({error.msg}); write one object a line") from error
        if not isinstance(values, dict):
            raise DataError(f"line {number} of {path} is no object; write one JSON object a line")
        yield number, values


def parse_conversation(values: dict[str, Any], place: str) -> Conversation:
    """Turns one line's object into a conversation and checks its turns.

    Args:
        values: The object.
        place: Where it stands, for the message.

    Returns:
        The conversation.

    Raises:
        DataError: If it is no conversation.
    """
    kind = values.get("type", "chat")
    if kind not in KINDS:
        raise DataError(f"{place} has type {kind!r}; use one of {', '.join(KINDS)}")
    turns = check_turns(_find_turns(values, place), place)
    if turns[-1]["role"] != "assistant":
        raise DataError(f"{place} ends with the user; end with the assistant's answer")
    return Conversation(tuple(turns), values.get("language"), values.get("tests"), kind)


def check_turns(messages: list[Any], place: str) -> list[Message]:
    """Checks that turns alternate and say something, and puts a system's text before the first question.

    Args:
        messages: With `role` and `content`.
        place: Where they stand, for the message.

    Returns:
        The turns of the user and the assistant.

    Raises:
        DataError: If a role is unknown or out of turn, or a turn is empty.
    """
    system = ""
    if isinstance(messages[0], dict) and messages[0].get("role") == "system":
        system = _read_content(messages[0], "system", f"turn 1 on {place}")
        messages = messages[1:]
    if not messages:
        raise DataError(f"{place} has a system text alone; add the user's turn")
    for index, message in enumerate(messages):
        _check_turn(message, ROLES[index % 2], f"turn {index + 1 + bool(system)} on {place}")
    turns = [{"role": message["role"], "content": message["content"]} for message in messages]
    if system:
        turns[0] = {"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}
    return turns


def _find_turns(values: dict[str, Any], place: str) -> list[Any]:
    if "messages" in values:
        messages = values["messages"]
    elif "conversations" in values:
        messages = [_translate(turn, place) for turn in _as_list(values["conversations"])]
    elif "prompt" in values and "completion" in values:
        messages = [*as_messages(values["prompt"], "user"), *as_messages(values["completion"], "assistant")]
    else:
        messages = None
    if not isinstance(messages, list) or not messages:
        raise DataError(
            f"{place} has no messages; write a list of turns with role and content, or prompt and completion, "
            "or conversations with from and value"
        )
    return messages


def as_messages(value: Any, role: str) -> list[Any]:
    """A text as a turn; a list of turns as it is.

    Args:
        value: Either.
        role: Whose turn a text is.

    Returns:
        Turns, unchecked.
    """
    return value if isinstance(value, list) else [{"role": role, "content": value}]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _translate(turn: Any, place: str) -> dict[str, Any]:
    speaker = turn.get("from") if isinstance(turn, dict) else None
    if speaker not in SPEAKERS:
        raise DataError(f"a turn on {place} is from {speaker!r}; use one of {', '.join(SPEAKERS)}")
    return {"role": SPEAKERS[speaker], "content": turn.get("value")}


def _check_turn(message: Any, expected: str, place: str) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ROLES:
        raise DataError(f"{place} has role {role!r}; use user or assistant")
    if role != expected:
        raise DataError(f"{place} is the {role}'s, but turns alternate and the user begins; make it the {expected}'s")
    _read_content(message, role, place)


def _read_content(message: dict[str, Any], role: str, place: str) -> str:
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        raise DataError(f"{place} is empty; write what the {role} says, or leave the conversation out")
    return content
