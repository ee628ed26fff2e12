"""A client of OpenAI-compatible servers, such as vLLM's, llama.cpp's or the Hub's router.

Requests to busy or failing servers are retried with exponential backoff, or when `Retry-After` says.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RunFailed, SettingsError
from .chat import Message

if TYPE_CHECKING:
    import openai

HUB = "https://router.huggingface.co/v1"
_TOO_LONG = ("context", "too long", "maximum")

Item = TypeVar("Item")
Result = TypeVar("Result")


class RequestRefused(SettingsError):
    """The server rejects the request: the address, model, key or a parameter is wrong."""


class PromptTooLong(RequestRefused):
    """The prompt and the requested tokens do not fit into the model's context."""


class ServerUnavailable(RunFailed):
    """The server did not answer in any of the tries, or its reply cannot be read."""


@dataclass(frozen=True)
class Reply:
    """One choice of a reply; `finish_reason` is such as "stop" or "length", where the server gives one."""

    text: str
    finish_reason: str | None


class Budget:
    """A limit on requests, shared by threads."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes one request from the budget; False if none is left."""
        with self._lock:
            if self.used >= self._limit:
                return False
            self.used += 1
            return True

    def refund(self) -> None:
        """Returns a request that had no result."""
        with self._lock:
            self.used -= 1


@dataclass(frozen=True)
class Client:
    """A model behind a server.

    Args:
        url: Base address, such as `http://127.0.0.1:8000/v1`; `None` for the Hub's inference providers.
        model: The model's name on the server.
        token: The server's API key. The user's Hub token is sent to the Hub only.
        concurrency: Requests in flight at a time.
        tries: Attempts before the server counts as unavailable.
    """

    url: str | None
    model: str
    token: str | None = field(default=None, repr=False)
    concurrency: int = 16
    timeout_s: float = 600.0
    tries: int = 5

    @cached_property
    def _client(self) -> "openai.OpenAI":
        import openai
        from huggingface_hub import get_token

        for name in ("httpx", "httpx2"):  # it logs every request
            logging.getLogger(name).setLevel(logging.WARNING)
        token = self.token or (get_token() if self.url is None else None)
        return openai.OpenAI(
            base_url=self.url or HUB, api_key=token or "none", timeout=self.timeout_s, max_retries=self.tries - 1
        )

    def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        samples: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stops: Sequence[str] = (),
    ) -> list[Reply]:
        """Requests answers to a chat; some servers return one, whatever `samples` is.

        Raises:
            RequestRefused: If the server rejects the request.
            ServerUnavailable: If it does not answer.
        """
        body = _list_parameters(max_tokens, samples, temperature, top_p, seed, stops)
        return self._ask(self._client.chat.completions.with_raw_response.create, {**body, "messages": list(messages)})

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        samples: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stops: Sequence[str] = (),
    ) -> list[Reply]:
        """Requests continuations of a text, in which special tokens are live; otherwise as `chat`."""
        body = _list_parameters(max_tokens, samples, temperature, top_p, seed, stops)
        return self._ask(self._client.completions.with_raw_response.create, {**body, "prompt": prompt})

    def _ask(self, create: Callable[..., Any], body: Mapping[str, object]) -> list[Reply]:
        import openai

        place = self.url or "the Hub"
        try:
            # Parsed here: some servers send JSON under another content type.
            raw = create(model=self.model, **body)
            reply = json.loads(raw.http_response.content)
            choices = reply.get("choices") if isinstance(reply, dict) else None
            if not isinstance(choices, list) or not choices:
                raise ValueError("a reply without choices")
            return [_read_choice(choice, is_chat="messages" in body) for choice in choices]
        except openai.APIStatusError as error:
            words = " ".join(error.response.text.split())[:160]
            if error.status_code in (400, 401, 403, 404, 422):
                kind = PromptTooLong if any(word in words for word in _TOO_LONG) else RequestRefused
                raise kind(
                    f"{place} refuses {self.model}: {error.status_code} {words}; check url, model and key"
                ) from error
            trouble = f"{error.status_code} {words}"
        except (openai.OpenAIError, ValueError, KeyError, TypeError) as error:
            trouble = " ".join(str(error.__cause__ or error).split())[:160]
        raise ServerUnavailable(
            f"{self.model} at {place} did not answer after {self.tries} tries ({trouble}); earlier answers are kept: "
            "run again when it is up"
        )

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Calls a function on items, `concurrency` at a time, and yields each item with its result as it completes.

        The first error is raised, and cancels the calls that have not started.
        """
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = {pool.submit(function, item): item for item in items}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _list_parameters(
    max_tokens: int, samples: int, temperature: float, top_p: float, seed: int | None, stops: Sequence[str]
) -> dict[str, object]:
    body: dict[str, object] = {"max_tokens": max_tokens, "n": samples, "temperature": temperature, "top_p": top_p}
    if seed is not None:
        body["seed"] = seed
    if stops:
        body["stop"] = list(stops)
    return body


def _read_choice(choice: Mapping[str, Any], *, is_chat: bool) -> Reply:
    text = choice["message"]["content"] if is_chat else choice["text"]
    reason = choice.get("finish_reason")
    return Reply(str(text or ""), reason if isinstance(reason, str) else None)
