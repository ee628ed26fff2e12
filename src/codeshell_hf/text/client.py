"""A client of OpenAI-compatible servers, such as vLLM's, llama.cpp's or the Hub's router.

After a refusal that may be about length, shorter requests find out whether the number of tokens, the prompt or the
parameters are refused. Requests to busy or failing servers are retried with exponential backoff, or after
`Retry-After`.
"""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import SettingsError
from .failures import Failed, Failure, PromptTooLong, explain, read_failure, shorten_words
from .replies import Reply, read_choices, read_json, repair_text
from .sampling import Sampling
from .settings import ServerSettings

if TYPE_CHECKING:
    import openai

    from .chat import Message  # imports torch, which workers of curation do not need

HUB = "https://router.huggingface.co/v1"
MOST_STOPS = 4  # OpenAI's limit; further stops are cut here
LONGEST_BACKOFF_S = 30.0

Item = TypeVar("Item")
Result = TypeVar("Result")
Body = Mapping[str, object]


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
        return openai.OpenAI(base_url=self.url or HUB, api_key=token or "none", timeout=self.timeout_s, max_retries=0)

    @cached_property
    def _renamed(self) -> dict[str, str]:
        # OpenAI's newer models only accept max_completion_tokens, and refuse max_tokens with a code.
        return {}

    @cached_property
    def _context(self) -> int | None:
        """Tokens of the model's context, if the list of models has it, as vLLM's and SGLang's do."""
        try:
            listed = read_json(self._client.models.with_raw_response.list().http_response.content)
        except Exception:
            return None
        models = listed.get("data")
        for model in models if isinstance(models, list) else []:
            if isinstance(model, dict) and model.get("id") == self.model:
                length = model.get("max_model_len")
                return length if isinstance(length, int) and length > 0 else None
        return None

    def chat(
        self, messages: Sequence["Message"], sampling: Sampling, *, schema: Mapping[str, object] | None = None
    ) -> list[Reply]:
        """Requests answers to a chat.

        Servers that return fewer choices than requested are asked again with other seeds. Where the prompt and
        `max_new_tokens` do not fit the context together, the answers are as long as fits.

        Args:
            sampling: With any number of stops; `max_tokens` is not used.
            schema: The JSON schema that answers shall follow, which servers without such a feature refuse or ignore.

        Returns:
            As many as `sampling.samples`.

        Raises:
            PromptTooLong: If the prompt alone does not fit.
            RequestRefused: If the server rejects the request.
            ServerUnavailable: If it does not answer, or its reply cannot be read.
        """
        body: dict[str, object] = {"messages": [dict(message) for message in messages]}
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}
            }  # fmt: skip
        return self._ask(body, sampling)

    def complete(self, prompt: str, sampling: Sampling) -> list[Reply]:
        """Requests continuations of a text, in which special tokens are live; otherwise as `chat`."""
        return self._ask({"prompt": prompt}, sampling)

    def _ask(self, prompt: Body, sampling: Sampling) -> list[Reply]:
        replies: list[Reply] = []
        samples = together = sampling.samples
        try:
            while len(replies) < samples:
                wanted = min(together, samples - len(replies))
                seed = None if sampling.seed is None else sampling.seed + len(replies)
                body: Body = {**prompt, **_list_parameters(replace(sampling, seed=seed, samples=wanted))}
                try:
                    choices = self._request(body)
                except Failed as failed:
                    if not failed.failure.may_be_about_length:
                        raise
                    body = self._fit(body, failed.failure)
                    together = int(str(body["n"]))
                    sampling = replace(sampling, max_new_tokens=int(str(body["max_tokens"])))
                    choices = self._request(body)
                replies += [_cut(reply, sampling.stops) for reply in choices[: samples - len(replies)]]
        except Failed as failed:
            raise explain(failed.failure, model=self.model, place=self._place, tries=self.tries) from failed
        return replies

    def _fit(self, body: Body, refusal: Failure) -> Body:
        """Finds a body that a server accepts in place of one that it refuses.

        Raises:
            PromptTooLong: If it refuses the prompt, but takes a shorter one.
            Failed: If it refuses the parameters, or this prompt at any length.
        """
        wanted = int(str(body["max_tokens"]))
        least = {**body, "n": 1, "max_tokens": 1}
        try:
            used = self._send(least)
        except Failed as failed:
            if failed.failure.is_about_length or (
                failed.failure.may_be_about_length and any(self._takes(short) for short in _shorten(least))
            ):
                raise PromptTooLong(
                    f"a prompt does not fit the context of {self.model} at {self._place} ({failed.failure.words}); "
                    "shorten it, or serve the model with a longer context"
                ) from failed
            raise
        # One token is accepted, so the number of samples or of tokens was refused.
        if body["n"] != 1 and self._takes({**body, "n": 1, "max_tokens": wanted}):
            return {**body, "n": 1}
        context = refusal.context or self._context
        usage = used.get("usage")
        prompt_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if context is not None and isinstance(prompt_tokens, int) and 0 < context - prompt_tokens < wanted:
            return {**body, "max_tokens": context - prompt_tokens}
        while (wanted := wanted // 2) > 1:
            if self._takes({**body, "n": 1, "max_tokens": wanted}):
                return {**body, "max_tokens": wanted}
        return {**body, "max_tokens": 1}

    def _takes(self, body: Body) -> bool:
        try:
            self._send(body)
        except Failed as failed:
            if failed.failure.may_be_about_length:
                return False
            raise
        return True

    def _request(self, body: Body) -> list[Reply]:
        """Sends a body and reads all choices of the reply, at least one; asks again where they cannot be read."""
        return self._retry(lambda: read_choices(self._send_once(body), is_chat="messages" in body))

    def _send(self, body: Body) -> dict[str, object]:
        return self._retry(lambda: self._send_once(body))

    def _retry(self, send: Callable[[], Result]) -> Result:
        for number in range(self.tries):
            try:
                return send()
            except Failed as failed:
                failure = failed.failure
                if failure.is_refusal or number + 1 == self.tries or failure.asks_too_long_a_wait:
                    raise
            # With jitter, since many threads are refused at the same time.
            backoff = min(0.5 * 2**number, LONGEST_BACKOFF_S) * random.uniform(0.75, 1.25)
            time.sleep(backoff if failure.wait_s is None else failure.wait_s)
        raise AssertionError("a client needs at least one try")

    def _send_once(self, body: Body) -> dict[str, object]:
        import openai

        sent = _repair({name: value for name, value in body.items() if name not in self._renamed})
        renamed = {self._renamed[name]: body[name] for name in self._renamed}
        route = self._client.chat.completions if "messages" in body else self._client.completions
        create: Callable[..., Any] = route.with_raw_response.create
        try:
            # Parsed here: some servers send JSON under another content type.
            raw = create(model=self.model, **sent, extra_body=renamed or None)
            reply = read_json(raw.http_response.content)
        except openai.APIStatusError as error:
            failure = read_failure(error.response.text, error.status_code, error.response.headers)
            if failure.parameter == "max_tokens" and "unsupported_parameter" in failure.codes and not self._renamed:
                self._renamed["max_tokens"] = "max_completion_tokens"
                return self._send_once(body)
            raise Failed(failure) from error
        except (openai.OpenAIError, ValueError) as error:
            raise Failed(Failure(shorten_words(str(error.__cause__ or error)))) from error
        if reply.get("error"):  # some gateways answer with status 200
            raise Failed(read_failure(json.dumps(reply), None, {}))
        return reply

    @property
    def _place(self) -> str:
        return self.url or "the Hub"

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


def open_client(settings: ServerSettings, section: str, *, concurrency: int = Client.concurrency) -> Client:
    """Makes a client, with its key from the environment.

    Args:
        section: Section of the settings, for the message.

    Raises:
        SettingsError: If the key is not in the environment.
    """
    return Client(settings.url, settings.model, read_token(settings, section), concurrency)


def read_token(settings: ServerSettings, section: str) -> str | None:
    """Reads a server's key from the environment; `None` if it needs none.

    Raises:
        SettingsError: If it is missing.
    """
    variable = settings.token_variable
    if variable is None:
        return None
    if not (token := os.environ.get(variable)):
        raise SettingsError(f"{section}.token_variable is {variable}, which is not set; export it")
    return token


def _list_parameters(sampling: Sampling) -> dict[str, object]:
    body: dict[str, object] = {
        "max_tokens": sampling.max_new_tokens,
        "n": sampling.samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stops:
        body["stop"] = list(sampling.stops[:MOST_STOPS])
    return body


def _shorten(body: Body) -> Iterator[Body]:
    """Bodies with ever shorter prompts: the longest text is cut to a half, a quarter and so on."""
    messages = body.get("messages")
    if isinstance(messages, list):
        longest = max(range(len(messages)), key=lambda place: len(str(messages[place]["content"])))
        text = str(messages[longest]["content"])
    else:
        text = str(body["prompt"])
    while len(text) > 1:
        text = text[: len(text) // 2]
        if isinstance(messages, list):
            yield {**body, "messages": [*messages[:longest], {**messages[longest], "content": text},
                                        *messages[longest + 1 :]]}  # fmt: skip
        else:
            yield {**body, "prompt": text}


def _cut(reply: Reply, stops: Sequence[str]) -> Reply:
    places = [place for stop in stops if (place := reply.text.find(stop)) >= 0]
    return replace(reply, text=reply.text[: min(places)], finish_reason="stop") if places else reply


def _repair(body: Body) -> dict[str, object]:
    """Makes the texts of a body UTF-8."""
    repaired: dict[str, object] = json.loads(repair_text(json.dumps(body, ensure_ascii=False)))
    return repaired
