"""Parses replies of OpenAI-compatible servers, with their variations."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .failures import Failed, Failure, shorten_words


@dataclass(frozen=True)
class Reply:
    """One choice of a reply; `finish_reason` is for example "stop" or "length", if the server gives one.

    The text is without its stop. Lone surrogates, which cannot be written as UTF-8, are U+FFFD. The first choice has
    the `tokens` of prompt and choices together, if the server counts them.
    """

    text: str
    finish_reason: str | None
    tokens: int | None = field(default=None, compare=False)


def read_json(content: bytes) -> dict[str, object]:
    """Parses a reply as a JSON object.

    Raises:
        ValueError: If it is not one.
    """
    if content.startswith((b"data:", b"event:", b":")):
        raise ValueError("a stream that was not asked for")
    reply = json.loads(content.decode("utf-8", "replace"))
    if not isinstance(reply, dict):
        raise ValueError(f"a reply that is not an object: {str(reply)[:80]}")
    return reply


def read_choices(reply: Mapping[str, object], *, is_chat: bool) -> list[Reply]:
    """Reads the choices of a reply, at least one.

    Raises:
        Failed: If one of them cannot be read.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Failed(Failure(f"a reply without choices: {shorten_words(json.dumps(reply))}"))
    first, *others = [_read_choice(choice, is_chat=is_chat) for choice in choices]
    return [replace(first, tokens=_read_usage(reply.get("usage"))), *others]


def _read_usage(usage: object) -> int | None:
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None


def _read_choice(choice: object, *, is_chat: bool) -> Reply:
    if not isinstance(choice, dict):
        raise Failed(Failure(f"a choice that is not an object: {str(choice)[:80]}"))
    reason = choice.get("finish_reason")
    if reason == "error" or choice.get("error"):  # from gateways whose provider failed during the reply
        raise Failed(Failure(f"a choice that failed: {shorten_words(json.dumps(choice))}"))
    message = choice.get("message") if is_chat else {"content": choice.get("text")}
    text = message.get("content") if isinstance(message, dict) else None
    if isinstance(text, list):  # content in parts
        parts = [part.get("text") for part in text if isinstance(part, dict) and part.get("type") in (None, "text")]
        text = "".join(part for part in parts if isinstance(part, str)) if parts else None
    if text is None and reason == "length":
        text = ""  # a reasoning model without an answer
    if not isinstance(text, str):
        raise Failed(Failure(f"a choice without text: {shorten_words(json.dumps(choice))}"))
    return Reply(repair_text(text), reason if isinstance(reason, str) else None)


def repair_text(text: str) -> str:
    """Pairs surrogates, and replaces lone ones by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
