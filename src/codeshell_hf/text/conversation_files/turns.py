"""One turn of a conversation in any of its spellings: speakers, content in parts, tool calls, reasoning, weights."""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...errors import DataError
from .findings import Findings
from .rows import decode_json

Role = Literal["system", "user", "assistant", "tool", "copilot"]
SPEAKERS: dict[str, Role] = {
    **dict.fromkeys(("user", "human", "prompter", "question", "customer"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "model", "bot", "ai", "bard", "bing", "claude", "chatbot", "agent", "answer"),
        "assistant",
    ),
    **dict.fromkeys(("function_call", "tool_call", "tool_calls"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(
        ("tool", "function", "observation", "ipython", "tool_response", "function_response", "tool_result"), "tool"
    ),
    "copilot": "copilot",
}
CALLERS = ("function_call", "tool_call", "tool_calls")
SPEAKER_KEYS = ("role", "from", "speaker", "author")
TEXT_KEYS = ("content", "value", "text", "parts", "message")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")
WEIGHT_KEYS = ("weight", "train", "loss", "trainable")
CALL_KEYS = ("tool_calls", "function_call")


@dataclass(frozen=True)
class Turn:
    """One turn.

    Args:
        role: Who speaks; "copilot" is raw code of the released form.
        text: What is said, without reasoning and calls.
        has_loss: Whether a row's weight wants a loss; `None` if it has none.
        reasoning: What stands before the answer.
        calls: Calls of tools, each a JSON text.
    """

    role: Role
    text: str
    has_loss: bool | None = None
    reasoning: str = ""
    calls: tuple[str, ...] = ()


def is_empty(turn: Turn) -> bool:
    """Whether a turn says nothing and calls nothing."""
    return not turn.text.strip() and not turn.calls


def read_turns(values: object, place: str, findings: Findings) -> list[Turn]:
    """Reads a list of turns, which may be a JSON text.

    Raises:
        DataError: If it is not such a list, or a speaker, a part or a weight is unknown.
    """
    values = split_columns(parse_text(values, place))
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise DataError(f"{place} has no list of turns; write turns with role and content")
    return [read_turn(value, f"turn {number} on {place}", findings) for number, value in enumerate(values, 1)]


def split_columns(values: object) -> object:
    """Turns that are written as an object of lists, as some exports of tables do; other values unchanged."""
    if not isinstance(values, Mapping) or not {"role", "from"} & values.keys():
        return values
    lists = [value for value in values.values() if isinstance(value, list)]
    if len(lists) < len(values) or len({len(value) for value in lists}) != 1:
        return values
    return [dict(zip(values, row, strict=True)) for row in zip(*lists, strict=True)]


def read_turn(values: object, place: str, findings: Findings) -> Turn:
    """Reads one turn; counts its fields that nothing uses."""
    if not isinstance(values, dict):
        raise DataError(f"{place} is {show(values)} and no turn; write role and content")
    if (plain := _read_plain(values)) is not None:
        return Turn(plain[0], check_text(plain[1], place))
    speaker_key = next((key for key in SPEAKER_KEYS if values.get(key) is not None), None)
    speaker = values.get(speaker_key) if speaker_key else None
    if isinstance(speaker, Mapping):  # as in exports of ChatGPT
        speaker = speaker.get("role")
    role = SPEAKERS.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None or not isinstance(speaker, str):
        known = "system, developer, user, human, assistant, gpt, tool, function_call, observation"
        raise DataError(f"{place} is from {show(speaker)}, which is not a known role; use one of {known}")
    text_key = next((key for key in TEXT_KEYS if values.get(key) is not None), None)
    content = _read_content(values.get(text_key) if text_key else None, place)
    calls = [call for key in CALL_KEYS for call in read_calls(values.get(key), place)]
    text = content.text
    if speaker.strip().lower() in CALLERS:
        calls, text = [*calls, *read_calls(text, place)], ""
    reasoning = next((str(values[key]) for key in REASONING_KEYS if isinstance(values.get(key), str)), "")
    if values.get("channel") == "analysis":  # of OpenAI's harmony format
        reasoning, text = text, ""
    used = {speaker_key, text_key, "channel", *CALL_KEYS, *REASONING_KEYS, *WEIGHT_KEYS}
    for key, value in values.items():
        if key not in used and is_given(value):
            findings.unused[f"turns: {key}"] += 1
    return Turn(
        content.role or role,
        check_text(text, place),
        _read_weight(values, place),
        check_text(reasoning or content.reasoning, place),
        tuple(check_text(call, place) for call in [*content.calls, *calls]),
    )


def _read_plain(values: dict[str, object]) -> tuple[Role, str] | None:
    """Speaker and text of a turn without anything else, as most are; for speed alone."""
    if len(values) != 2:
        return None
    speaker, text = (values.get("role"), values.get("content")) if "role" in values else (
        values.get("from"), values.get("value")
    )  # fmt: skip
    if type(speaker) is not str or type(text) is not str or speaker in CALLERS:
        return None
    role = SPEAKERS.get(speaker)
    return None if role is None else (role, text)


@dataclass(frozen=True)
class _Content:
    text: str
    reasoning: str = ""
    calls: tuple[str, ...] = ()
    role: Role | None = None


def _read_content(content: object, place: str) -> _Content:
    if content is None or isinstance(content, str):
        return _Content(content or "")
    if isinstance(content, Mapping):
        content = content.get("parts", [content])
    if not isinstance(content, Sequence):
        raise DataError(f"{place} has content {show(content)}; write a text, or a list of text parts")
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[str] = []
    role: Role | None = None
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if kind == "thinking" and isinstance(part, Mapping):
            reasoning.append(str(part.get("thinking", "")))
        elif kind == "tool_use" and isinstance(part, Mapping):
            calls.append(_write_call(part.get("name"), part.get("input"), place))
        elif kind == "tool_result" and isinstance(part, Mapping):
            role = "tool"
            texts.append(_read_content(part.get("content"), place).text)
        elif kind in ("text", "input_text", "output_text") and isinstance(text, str):
            texts.append(text)
        else:
            raise DataError(f"{place} has a part of type {show(kind)}, which is not text; leave it or the row out")
    return _Content("".join(texts), "\n".join(reasoning), tuple(calls), role)


def read_calls(value: object, place: str) -> list[str]:
    """Calls of tools as JSON texts with name and arguments; a text that is not JSON stays as it is."""
    if not is_given(value):
        return []
    if isinstance(value, str):
        try:
            value = decode_json(value)
        except DataError:
            return [value] if isinstance(value, str) else []
    if not isinstance(value, list):
        value = [value]
    calls = []
    for call in value:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise DataError(f"{place} calls {show(call)}; write a tool's name and arguments")
        calls.append(_write_call(function["name"], function.get("arguments", function.get("parameters")), place))
    return calls


def _write_call(name: object, arguments: object, place: str) -> str:
    if not isinstance(name, str) or not name:
        raise DataError(f"{place} calls a tool {show(name)}; write its name")
    if isinstance(arguments, str):
        with contextlib.suppress(DataError):  # arguments that are not JSON are a text
            arguments = decode_json(arguments) if arguments.strip() else {}
    return json.dumps({"name": name, "arguments": {} if arguments is None else arguments}, ensure_ascii=False)


def _read_weight(values: Mapping[str, object], place: str) -> bool | None:
    for key in WEIGHT_KEYS:
        weight = values.get(key)
        if not is_given(weight):
            continue
        if not isinstance(weight, int | float) or weight not in (0, 1):
            raise DataError(f"{place} has {key} {show(weight)}; write 1 to train on it, or 0")
        return bool(weight)
    return None


def parse_text(value: object, place: str) -> object:
    """A list or object that is written as a JSON text, as in tables; other values unchanged."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return decode_json(value)
        except DataError as error:
            raise DataError(f"{place} has a text in place of a list, which {error}") from error
    return value


def check_text(text: str, place: str) -> str:
    """Raises `DataError` for half a surrogate pair, which no UTF-8 text has."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place} has half a surrogate pair or bytes that are not UTF-8 ({text[error.start]!r} at character "
                f"{error.start}); write the whole character"
            ) from error
    return text


def is_given(value: object) -> bool:
    """Whether a field has a value: null, NaN, and empty texts, lists and objects are none."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return value is not None and value not in ("", [], {})


def show(value: object) -> str:
    """A value for a message, shortened."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
