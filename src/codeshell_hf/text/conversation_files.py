"""Reads conversations in three formats; errors name the line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from .chat import Conversation, Kind, Message

ROLES = ("user", "assistant")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
KINDS: dict[object, Kind] = {"chat": "chat", "copilot": "copilot"}


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Reads JSON Lines, one conversation a line.

    A line has `messages` (role and content, as in ChatML), `prompt` and `completion` (texts or messages), or
    `conversations` (from and value, the format that the released CodeShell models were tuned on). A system message is
    prepended to the first question, since the chat format has no system turn. With `"type": "copilot"` the turns are
    raw code, in which `<fim_prefix>`, `<fim_suffix>` and `<fim_middle>` mark a place to fill in.

    Raises:
        DataError: If the file cannot be read, is empty, or has an invalid line, whose number is given.
    """
    is_empty = True
    for number, values in read_json_lines(path):
        is_empty = False
        yield parse_conversation(values, f"line {number} of {path}")
    if is_empty:
        raise DataError(f"{path} holds no conversation; write one JSON object with messages on each line")


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Reads JSON Lines with line numbers from 1; blank lines are skipped, others must be objects."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parse_line(line, f"line {number} of {path}")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of JSON Lines") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; name a file of JSON Lines") from error


def _parse_line(line: str, place: str) -> dict[str, object]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not JSON ({error.msg}); write one object a line") from error
    if not isinstance(values, dict):
        raise DataError(f"{place} is no object; write one JSON object a line")
    return values


def parse_conversation(values: Mapping[str, object], place: str) -> Conversation:
    """Parses one line's object; `place` names the line in errors.

    Raises:
        DataError: If it is not a valid conversation.
    """
    kind = KINDS.get(values.get("type", "chat"))
    if kind is None:
        raise DataError(f"{place} has type {values['type']!r}; use one of {', '.join(map(str, KINDS))}")
    turns = check_turns(_get_turns(values, place), place)
    if turns[-1]["role"] != "assistant":
        raise DataError(f"{place} ends with the user; end with the assistant's answer")
    return Conversation(tuple(turns), read_text(values, "language", place), read_text(values, "tests", place), kind)


def read_text(values: Mapping[str, object], key: str, place: str) -> str | None:
    """Gets an optional text of a line; a `DataError` if the value is anything else."""
    text = values.get(key)
    if text is not None and not isinstance(text, str):
        raise DataError(f"{place} has {key} {text!r}; write a text, or leave it out")
    return text


def check_turns(messages: Sequence[object], place: str) -> list[Message]:
    """Checks that turns alternate and are not empty, and prepends a system message to the first question.

    Raises:
        DataError: If a role is unknown or out of turn, or a turn is empty.
    """
    system = ""
    if _get_role(messages[0]) == "system":
        system = _read_content(messages[0], "system", f"turn 1 on {place}")
        messages = messages[1:]
    if not messages:
        raise DataError(f"{place} has only a system message; add the user's turn")
    turns = [
        _check_turn(message, ROLES[index % 2], f"turn {index + 1 + bool(system)} on {place}")
        for index, message in enumerate(messages)
    ]
    if system:
        turns[0] = {"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}
    return turns


def as_messages(value: object, role: str) -> list[object]:
    """Wraps a text as a turn of this role; a list of turns is returned unchecked."""
    return value if isinstance(value, list) else [{"role": role, "content": value}]


def _get_turns(values: Mapping[str, object], place: str) -> list[object]:
    messages: object = None
    if "messages" in values:
        messages = values["messages"]
    elif isinstance(turns := values.get("conversations"), list):
        messages = [_translate(turn, place) for turn in turns]
    elif "prompt" in values and "completion" in values:
        messages = [*as_messages(values["prompt"], "user"), *as_messages(values["completion"], "assistant")]
    if not isinstance(messages, list) or not messages:
        raise DataError(
            f"{place} has no messages; write a list of turns with role and content, or prompt and completion, "
            "or conversations with from and value"
        )
    return messages


def _translate(turn: object, place: str) -> dict[str, object]:
    values = turn if isinstance(turn, dict) else {}
    speaker = values.get("from")
    if speaker not in SPEAKERS:
        raise DataError(f"a turn on {place} is from {speaker!r}; use one of {', '.join(SPEAKERS)}")
    return {"role": SPEAKERS[speaker], "content": values.get("value")}


def _get_role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _check_turn(message: object, expected: str, place: str) -> Message:
    role = _get_role(message)
    if role not in ROLES:
        raise DataError(f"{place} has role {role!r}; use user or assistant")
    if role != expected:
        raise DataError(f"{place} is the {role}'s, but turns alternate and the user begins; make it the {expected}'s")
    return {"role": expected, "content": _read_content(message, expected, place)}


def _read_content(message: object, role: str, place: str) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str) or not content.strip():
        raise DataError(f"{place} is empty; write what the {role} says, or leave the conversation out")
    return content
