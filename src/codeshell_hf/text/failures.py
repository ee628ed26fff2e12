"""Failed requests to a server: the reason, and whether to retry.

Servers refuse different things in different words. Failures are classified by status and code, never by wording.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..errors import RunFailed, SettingsError

LONGEST_WAIT_S = 600.0

_MAY_BE_LENGTH = frozenset({400, 413, 422})
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
# OpenAI's, Azure's and the Hub's; llama.cpp's.
_LENGTH_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "exceed_context_size_error"})
_ACCESS_CODES = frozenset({"insufficient_quota", "model_not_found", "invalid_api_key"})
_ACCESS = frozenset({401, 402, 404})
_FINAL_CODES = _ACCESS_CODES | {"content_filter"}


class RequestRefused(SettingsError):
    """The server rejects the request: the address, model, key or a parameter is wrong."""


class AccessRefused(RequestRefused):
    """The server rejects the key, the account or the model, so that it will reject every request."""


class PromptTooLong(RequestRefused):
    """The prompt alone does not fit into the model's context."""


class ContentRefused(RequestRefused):
    """The server's content filter rejects this prompt."""


class ServerUnavailable(RunFailed):
    """The server did not answer in any of the tries, or its reply cannot be read."""


@dataclass(frozen=True)
class Failure:
    """The reason of a failed request, from the server or the network.

    Args:
        words: The message, in one short line.
        status: HTTP status; `None` if no server answered, or the reply cannot be read.
        parameter: The refused parameter, if the server names it.
        context: Tokens of the model's context, if the server states it.
        wait_s: Seconds that the server asks to wait.
    """

    words: str
    status: int | None = None
    codes: frozenset[str] = frozenset()
    parameter: str | None = None
    context: int | None = None
    wait_s: float | None = None

    @property
    def is_about_length(self) -> bool:
        """Whether the server says that the request is too long."""
        return bool(self.codes & _LENGTH_CODES)

    @property
    def may_be_about_length(self) -> bool:
        """Whether a shorter request may succeed."""
        return self.is_about_length or (self.status in _MAY_BE_LENGTH and not self.codes & _FINAL_CODES)

    @property
    def is_refusal(self) -> bool:
        """Whether the same request will fail again."""
        return self.status is not None and (self.status not in _BUSY or bool(self.codes & _FINAL_CODES))

    @property
    def is_about_access(self) -> bool:
        """Whether every request will fail, whatever it asks."""
        return self.status in _ACCESS or bool(self.codes & _ACCESS_CODES)

    @property
    def asks_too_long_a_wait(self) -> bool:
        """Whether the server asks to wait longer than the limit."""
        return self.wait_s is not None and self.wait_s > LONGEST_WAIT_S


class Failed(Exception):
    """A request failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


def explain(failure: Failure, *, model: str, place: str, tries: int) -> RequestRefused | ServerUnavailable:
    """The error to raise for a request that failed finally."""
    status = "" if failure.status is None else f"{failure.status} "
    if failure.is_refusal:
        return _find_kind(failure)(
            f"{place} refuses {model}: {status}{failure.words}; check url, model, key and parameters"
        )
    asks = f"and asks to wait {failure.wait_s:.0f} s " if failure.asks_too_long_a_wait else ""
    return ServerUnavailable(
        f"{model} at {place} did not answer {asks}after {tries} tries ({status}{failure.words}); "
        "earlier answers are kept: run again when it is up"
    )


def _find_kind(failure: Failure) -> type[RequestRefused]:
    if failure.is_about_access:
        return AccessRefused
    is_content = failure.status in _MAY_BE_LENGTH and "content_filter" in failure.codes
    return ContentRefused if is_content else RequestRefused


def read_failure(text: str, status: int | None, headers: Mapping[str, str]) -> Failure:
    """Parses a server's error: OpenAI's, FastAPI's or TGI's format, or plain text, which may contain the status."""
    words = shorten_words(text)
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    error = said.get("error", said) if isinstance(said, dict) else {}
    details = {**said, **error} if isinstance(error, dict) and isinstance(said, dict) else {}
    codes = {str(details[name]) for name in ("code", "type", "error_type") if isinstance(details.get(name), str)}
    inner = details.get("innererror")
    if isinstance(inner, dict) and isinstance(inner.get("code"), str):
        codes.add("content_filter" if inner["code"] == "ResponsibleAIPolicyViolation" else str(inner["code"]))
    if status is None:
        stated = details.get("code", details.get("status"))
        status = int(str(stated)) if str(stated).isascii() and str(stated).isdecimal() else None
        status = status if status is not None and 400 <= status < 600 else None
    context = details.get("n_ctx")
    parameter = details.get("param")
    return Failure(
        words,
        status,
        frozenset(codes),
        parameter if isinstance(parameter, str) else None,
        context if isinstance(context, int) and context > 0 else None,
        _read_wait(headers),
    )


def _read_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, in its headers: a number, or a date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(float(value) * unit_s, 0.0)
        except ValueError:
            pass
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except ValueError:
            pass
    return None


def shorten_words(text: str) -> str:
    """The beginning of a text in one line."""
    return " ".join(text.split())[:160]
