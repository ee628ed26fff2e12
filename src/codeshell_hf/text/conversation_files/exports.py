"""Conversations as single products write them: ChatGPT's export of one's data, and the files of MOSS."""

import json
import re
from collections.abc import Iterator, Mapping

from ...errors import DataError
from .findings import Findings
from .rows import Row
from .turns import SPEAKERS, Turn, check_text, is_given, show

HIDDEN = "is_visually_hidden_from_conversation"
NOT_SAID = (
    "user_editable_context",
    "model_editable_context",
    "reasoning_recap",
    "system_error",
    "tether_browsing_code",
)
CALL = re.compile(r"(\w+)\((\"(?:[^\"\\]|\\.)*\")\)")
MOSS_PARTS = ("Human", "Inner Thoughts", "Commands", "Tool Responses", "MOSS")
_SPEAKERS = "Human|Inner Thoughts|Commands|Tool Responses|Results|MOSS"
MOSS_MARKS = re.compile(rf"\A\s*(?:<\|(?:{_SPEAKERS})\|>|\[(?:{_SPEAKERS})\]): ?|\s*<eo[htcrma]>\s*\Z")
MOST_DIGITS = 9  # of a turn's number; Python refuses to read thousands


def is_chatgpt(row: Row) -> bool:
    """Whether a row is a conversation of ChatGPT's export: a mapping of nodes, each with a message and a parent."""
    nodes = row.get("mapping")
    return (
        isinstance(nodes, Mapping)
        and bool(nodes)
        and all(isinstance(node, Mapping) and "parent" in node and "message" in node for node in nodes.values())
    )


def read_chatgpt(row: Row, place: str, findings: Findings) -> list[Turn]:
    """The turns that the conversation showed last: from its current node back to the first.

    Answers on other branches were asked for again, and are counted. So are messages that nobody saw.

    Raises:
        DataError: If the nodes lead in a circle or to one that is not there, or one has content that is not text.
    """
    nodes = row["mapping"]
    if not isinstance(nodes, Mapping):
        raise DataError(f"{place} has a mapping {show(nodes)}; write an object of nodes")
    last = row.get("current_node")
    path = _follow_parents(nodes, last, place)
    shown = set(path)
    replaced = sum(_is_answer(node) for name, node in nodes.items() if name not in shown)
    if replaced:
        findings.changed["answers of ChatGPT that were asked for again, and are left out"] += replaced
    return [turn for name in path for turn in _read_node(nodes[name], f"message {name} on {place}", findings)]


def _follow_parents(nodes: Mapping[str, Row], last: object, place: str) -> list[str]:
    if not isinstance(last, str) or last not in nodes:
        parents = {parent for node in nodes.values() if isinstance(parent := node.get("parent"), str)}
        leaves = [name for name in nodes if name not in parents]
        if len(leaves) != 1:
            raise DataError(
                f"{place} has {len(leaves)} last messages and the current_node {show(last)}; name the last one in "
                "current_node"
            )
        last = leaves[0]
    path: list[str] = []
    seen: set[object] = set()
    name: object = last
    while name is not None:
        if not isinstance(name, str) or name not in nodes:
            raise DataError(f"{place} has a message whose parent {show(name)} is not there; leave the row out")
        if name in seen:
            raise DataError(f"{place} has messages that are their own parents; leave the row out")
        seen.add(name)
        path.append(name)
        name = nodes[name].get("parent")
    return path[::-1]


def _is_answer(node: Row) -> bool:
    message = node.get("message")
    author = message.get("author") if isinstance(message, Mapping) else None
    return isinstance(author, Mapping) and author.get("role") == "assistant"


def _read_node(node: Row, place: str, findings: Findings) -> Iterator[Turn]:
    message = node.get("message")
    if not isinstance(message, Mapping):  # the root
        return
    author, content, metadata = (message.get(name) for name in ("author", "content", "metadata"))
    speaker = author.get("role") if isinstance(author, Mapping) else None
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None or not isinstance(content, Mapping):
        raise DataError(f"{place} is from {show(speaker)} with content {show(content)}; leave the row out")
    kind = content.get("content_type")
    if kind in NOT_SAID or message.get("weight") == 0 or (isinstance(metadata, Mapping) and metadata.get(HIDDEN)):
        findings.changed["messages of ChatGPT that nobody saw, and are left out"] += 1
        return
    if kind == "thoughts":
        thoughts = content.get("thoughts")
        listed = [part for part in thoughts if isinstance(part, Mapping)] if isinstance(thoughts, list) else []
        reasoning = "\n".join(str(part["content"]) for part in listed if is_given(part.get("content")))
        if reasoning:
            yield Turn("assistant", "", reasoning=check_text(reasoning, place))
        return
    text = check_text(_read_content(content, place), place)
    recipient = message.get("recipient", "all")
    if role == "assistant" and isinstance(recipient, str) and recipient != "all":
        yield Turn("assistant", "", calls=(_write_call(recipient, text),))
    elif text.strip() or role == "user":
        yield Turn(role, text)


def _read_content(content: Row, place: str) -> str:
    parts = content.get("parts")
    if parts is None and isinstance(content.get("text"), str):
        return str(content["text"])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        other = next((part for part in parts if not isinstance(part, str)), None) if isinstance(parts, list) else parts
        named = other.get("content_type", other) if isinstance(other, Mapping) else content.get("content_type")
        raise DataError(f"{place} has a part of type {show(named)}, which is not text; leave it or the row out")
    return "\n".join(parts)


def _write_call(name: str, arguments: str) -> str:
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def is_moss(row: Row) -> bool:
    """Whether a row is a conversation of MOSS: turns by number, each with a question and an answer."""
    chat = row.get("chat")
    return (
        isinstance(chat, Mapping)
        and bool(chat)
        and all(isinstance(turn, Mapping) and {"Human", "MOSS"} <= turn.keys() for turn in chat.values())
    )


def read_moss(row: Row, place: str, findings: Findings) -> list[Turn]:
    """The turns of a conversation of MOSS, in the order of their numbers: thoughts, commands and results too.

    Raises:
        DataError: If a part is not text, or a turn has no number.
    """
    chat = row["chat"]
    if not isinstance(chat, Mapping):
        raise DataError(f"{place} has a chat {show(chat)}; write an object of turns")
    turns: list[Turn] = []
    for name, parts in sorted(chat.items(), key=lambda pair: _read_number(pair[0], place)):
        where = f"{name} on {place}"
        asked, thought, command, result, answer = (_read_part(parts, part, where) for part in MOSS_PARTS)
        for unused in parts.keys() - set(MOSS_PARTS):
            findings.unused[f"turns: {unused}"] += 1
        turns.append(Turn("user", asked))
        turns += [Turn("assistant", "", reasoning=thought)] if thought else []
        turns += [Turn("assistant", "", calls=_read_commands(command))] if command else []
        turns += [Turn("tool", result)] if result else []
        turns.append(Turn("assistant", answer))
    return turns


def _read_number(name: str, place: str) -> int:
    digits = name.removeprefix("turn_")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS):
        raise DataError(f"{place} has a turn {show(name)}; number turns, as in turn_1")
    return int(digits)


def _read_part(parts: Row, name: str, place: str) -> str:
    """A part without its marks; "None" says that there is none."""
    value = parts.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{place} has {name} {show(value)}; write a text")
    text = MOSS_MARKS.sub("", check_text(value, place)).strip()
    return "" if text == "None" and name not in ("Human", "MOSS") else text


def _read_commands(text: str) -> tuple[str, ...]:
    """Each command as a call; what is not written as commands are is one call of that text."""
    found = list(CALL.finditer(text))
    if not found or CALL.sub("", text).strip(" ,;\n"):
        return (_write_call("command", text),)
    return tuple(_write_call(match[1], match[2][1:-1].replace('\\"', '"')) for match in found)
