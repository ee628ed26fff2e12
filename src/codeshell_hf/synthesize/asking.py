"""Asks a model for replies within a budget, and keeps each on disk as it comes, so that nothing is paid twice."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..manifest import hash_values
from ..text.cache import JsonLinesCache
from ..text.chat import Message, encode_prompt
from ..text.client import Client
from ..text.decode import Answer, sample_answers
from ..text.failures import ContentRefused, PromptTooLong, ServerUnavailable
from ..text.replies import Reply
from ..text.sampling import Sampling
from ..tokenization_codeshell import END_OF_TURN
from .settings import BudgetSettings

BYTES_PER_TOKEN = 3  # where a server does not count
REFUSED, TOO_LONG, NOT_ASKED, NO_REPLY = "refused", "prompt-too-long", "budget-spent", "no-reply"


@dataclass(frozen=True)
class ModelRequest:
    """A chat to answer.

    Args:
        origin: What the replies depend on besides: the model.
        sampling: Its seed is of this request alone, so that other requests do not change its replies.
    """

    messages: Sequence[Message]
    sampling: Sampling
    origin: str

    @cached_property
    def key(self) -> str:
        """Under which the replies are kept."""
        return hash_values([self.origin, list(self.messages), repr(self.sampling)])


@dataclass(frozen=True)
class ModelReplies:
    """Replies to a request, or the reason why there are none."""

    replies: tuple[Reply, ...] = ()
    reason: str | None = None


class ReplyStore:
    """Replies on disk, and what they cost; safe to use from several threads.

    Args:
        folder: Holds `replies.jsonl`, to which lines are only appended.
    """

    def __init__(self, folder: Path, budget: BudgetSettings) -> None:
        self.folder = folder
        self._cache = JsonLinesCache(folder / "replies.jsonl")
        self._budget = budget
        self._lock = threading.Lock()
        self._failed: set[str] = set()
        self.requests = len(self._cache)
        self.tokens = sum(int(str(row.get("tokens", 0))) for row in self._cache.list_rows())

    def find(self, request: ModelRequest) -> ModelReplies | None:
        """The kept replies to a request."""
        row = self._cache.get(request.key)
        if row is None:
            return None
        given: list[dict[str, Any]] = json.loads(json.dumps(row["replies"]))
        reason = row.get("reason")
        replies = tuple(Reply(one["text"], one["finish_reason"]) for one in given)
        return ModelReplies(replies, None if reason is None else str(reason))

    def add(self, request: ModelRequest, replies: Sequence[Reply], reason: str | None = None) -> None:
        """Keeps the replies to a request, and counts them."""
        counted = [reply.tokens for reply in replies if reply.tokens is not None]
        texts = [*(message["content"] for message in request.messages), *(reply.text for reply in replies)]
        estimate = sum(len(text.encode("utf-8", "replace")) for text in texts) // BYTES_PER_TOKEN
        tokens = sum(counted) if counted else estimate
        rows = [{"text": reply.text, "finish_reason": reply.finish_reason} for reply in replies]
        with self._lock:
            self.requests += 1
            self.tokens += tokens
        self._cache.add(request.key, {"replies": rows, "tokens": tokens, "reason": reason})

    def fail(self, request: ModelRequest) -> int:
        """Notes that a request has no reply in this run, so that another asks again; returns how many have none."""
        with self._lock:
            self._failed.add(request.key)
            return len(self._failed)

    def choose(self, requests: Sequence[ModelRequest]) -> list[ModelRequest]:
        """The requests without replies that the budget of requests allows, in order and each once."""
        missing = {request.key: request for request in requests if self._cache.get(request.key) is None}
        left = max(0, self._budget.max_requests - self.requests)
        return list(missing.values())[:left]

    @property
    def is_spent(self) -> bool:
        """Whether the budget of tokens is."""
        return self._budget.max_tokens is not None and self.tokens >= self._budget.max_tokens

    def open_outcomes(self) -> JsonLinesCache:
        """What the sandbox said of tasks, kept beside the replies."""
        return JsonLinesCache(self.folder / "outcomes.jsonl")

    def describe(self) -> str:
        """What was spent, and whether that is all."""
        is_all = self.requests >= self._budget.max_requests or self.is_spent
        return f"{self.requests:,} requests of {self.tokens:,} tokens{', which is the budget' if is_all else ''}"

    def read_all(self, requests: Sequence[ModelRequest]) -> list[ModelReplies]:
        """The replies to all requests; those that nobody paid for, or that have none, have a reason."""
        return [
            self.find(request) or ModelReplies(reason=NO_REPLY if request.key in self._failed else NOT_ASKED)
            for request in requests
        ]


def ask_server(
    client: Client,
    requests: Sequence[ModelRequest],
    store: ReplyStore,
    on_progress: Callable[[], object],
    *,
    max_failures: int,
) -> None:
    """Asks a server, several requests at a time, until the budget is spent.

    Raises:
        RunFailed: If the server leaves more than `max_failures` requests without a reply; replies before are kept.
        SettingsError: If it rejects a request for another reason than its length or content.
    """

    def ask(request: ModelRequest) -> None:
        if store.is_spent:
            return
        try:
            store.add(request, client.chat(request.messages, request.sampling))
        except PromptTooLong:
            store.add(request, (), TOO_LONG)
        except ContentRefused:
            store.add(request, (), REFUSED)
        except ServerUnavailable:
            if store.fail(request) > max_failures:
                raise

    for _ in client.map(ask, store.choose(requests)):
        on_progress()


def ask_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[ModelRequest],
    store: ReplyStore,
    on_progress: Callable[[], object],
    *,
    batch_size: int,
    seed: int,
) -> None:
    """Samples from a model in memory, until the budget is spent; requests of one call have the same sampling.

    Requests that do not fit the model's context are kept as too long.
    """
    max_positions = model.config.max_position_embeddings
    waiting: list[ModelRequest] = []
    for request in store.choose(requests):
        if len(encode_prompt(tokenizer, request.messages)) + request.sampling.max_new_tokens > max_positions:
            store.add(request, (), TOO_LONG)
            on_progress()
        else:
            waiting.append(request)

    def keep(request: ModelRequest, answers: list[Answer]) -> None:
        replies = [Reply(answer.text, "stop" if answer.is_finished else "length") for answer in answers]
        store.add(request, replies)
        on_progress()

    for start in range(0, len(waiting), batch_size):
        if store.is_spent:
            return
        group = waiting[start : start + batch_size]
        sampling = group[0].sampling
        sample_answers(
            model,
            tokenizer,
            [request.messages for request in group],
            per_prompt=sampling.samples,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            batch_size=batch_size,
            seed=seed,
            ids=[request.key for request in group],
            on_answers=lambda place, answers, group=group: keep(group[place], answers),  # type: ignore[misc]
        )


def make_request(
    messages: Sequence[Message],
    origin: str,
    *,
    seed: int,
    max_new_tokens: int,
    temperature: float,
    samples: int = 1,
) -> ModelRequest:
    """Makes a request with a seed of its own."""
    own = int(hash_values([seed, list(messages)])[:7], 16)
    sampling = Sampling(max_new_tokens, temperature, seed=own, samples=samples, stops=(END_OF_TURN,))
    return ModelRequest(messages, sampling, origin)
