"""Quality scores from 0 to 5 for a sample, from a model behind an endpoint or computed from the signals."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RunFailed, SettingsError
from ..text.cache import JsonLinesCache
from ..text.client import Budget, Client, read_token
from ..text.failures import AccessRefused, RequestRefused, ServerUnavailable
from ..text.replies import Reply
from ..text.sampling import Sampling
from .preference_score import Measured
from .quality_requests import AGAIN, SCHEMA, read_prompt, write_request
from .quality_scores import MAX_SCORE, Assessment, read_scores
from .settings import Endpoint

TRIES = 4
TIMEOUT_S = 120.0
SECTION = "quality.endpoint"
# So many documents in a row without an answer end the run.
MAX_FAILURES = 20
_PROBE = ("def add(first, second):\n    return first + second\n", "python")
_logger = logging.getLogger(__name__)


@dataclass
class AnswerCounts:
    """The documents by what became of them: scored, unreadable twice, without an answer, or beyond the budget."""

    scored: int = 0
    unreadable: int = 0
    unanswered: int = 0
    beyond_budget: int = 0


def ask(
    endpoint: Endpoint,
    documents: Sequence[tuple[str, str]],
    cache: JsonLinesCache,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Assessment | None], AnswerCounts]:
    """Requests scores from a model; `None` without a score that can be read, or after the budget is spent.

    A first request, about a file of two lines, shows whether the server answers, and whether it keeps to a JSON schema.
    An answer that cannot be read counts, and is asked for once more.

    Args:
        documents: Text and language of each.
        cache: Earlier answers, which are reused; new ones are added.
        on_progress: Called with the documents done and their total.

    Raises:
        DataError: If the prompt cannot be read or lacks `{text}`.
        SettingsError: If the server refuses the key, the model or the first request, or answers are cut short.
        RunFailed: If the server does not answer.
    """
    annotator = _Annotator(endpoint, cache, read_prompt(endpoint.prompt))
    requests = [annotator.write(*document) for document in documents]
    if any(annotator.is_open(request) for request in requests):
        annotator.probe()
    found: list[Assessment | None] = [None] * len(requests)

    def answer(place: int) -> None:
        found[place] = annotator.annotate(requests[place])

    for done, _ in enumerate(annotator.client.map(answer, range(len(requests))), 1):
        on_progress(done, len(requests))
    counts = annotator.counts
    if missing := len(found) - counts.scored:
        _logger.warning(
            "%d of %d documents have no score: %d unreadable answers, %d without one, %d beyond the budget of %d",
            *(missing, len(found), counts.unreadable, counts.unanswered, counts.beyond_budget, endpoint.max_answers),
        )
    return found, counts


class _Annotator:
    """Asks one model about documents."""

    def __init__(self, endpoint: Endpoint, cache: JsonLinesCache, prompt: str) -> None:
        token = read_token(endpoint, SECTION)
        self.client = Client(endpoint.url, endpoint.model, token, endpoint.calls_at_once, TIMEOUT_S, TRIES)
        self.counts = AnswerCounts()
        self._place = f"{endpoint.model} at {endpoint.url or 'the Hub'}"
        self._endpoint = endpoint
        self._prompt = prompt
        self._cache = cache
        self._budget = Budget(max(endpoint.max_answers - len(cache), 0))
        self._sampling = Sampling(endpoint.max_answer_tokens)
        self._has_schema = True
        self._failures = 0
        self._lock = threading.Lock()

    def write(self, text: str, language: str) -> str:
        return write_request(self._prompt, text, language, max_characters=self._endpoint.max_characters)

    def is_open(self, request: str) -> bool:
        """Whether a request has still to be sent."""
        return any(self._cache.get(key) is None for key in self._list_keys(request)) and self._read(request) is None

    def _list_keys(self, request: str) -> list[str]:
        """The cache's keys of the first answer and the second."""
        key = hashlib.sha256(json.dumps([self.client.model, request]).encode()).hexdigest()
        return [key, f"{key}-again"]

    def _read(self, request: str) -> Assessment | None:
        rows = [row for key in self._list_keys(request) if (row := self._cache.get(key)) is not None]
        return next((scores for row in rows if (scores := read_scores(str(row["answer"]))) is not None), None)

    def probe(self) -> None:
        """Asks about a small file; the first request of a run, which shows at once what is wrong."""
        request = self.write(*_PROBE)
        reply = Reply("", None)
        for self._has_schema in (True, False):
            try:
                reply = self._send(request)
            except AccessRefused:
                raise
            except (RequestRefused, ServerUnavailable):  # of the schema, perhaps
                if not self._has_schema:
                    raise
                continue
            if read_scores(reply.text) is None:
                if reply.finish_reason == "length":
                    raise SettingsError(
                        f"{self._place} needs more than {self._endpoint.max_answer_tokens} tokens for an answer; raise "
                        f"{SECTION}.max_answer_tokens"
                    )
                reply = self._send(request, reply.text)
            if read_scores(reply.text) is not None:
                return
        raise RunFailed(
            f"{self._place} gives no score for a function of two lines, but {reply.text[:80]!r}; name another model"
        )

    def annotate(self, request: str) -> Assessment | None:
        said: str | None = None
        for key in self._list_keys(request):
            row = self._cache.get(key)
            if row is None:
                reply = self._answer(request, said)
                if reply is None:
                    return None
                row = {"answer": reply.text}
                self._cache.add(key, row)
            said = str(row["answer"])
            scores = read_scores(said)
            if scores is not None:
                self._count("scored")
                return scores
        self._count("unreadable")
        return None

    def _answer(self, request: str, said: str | None) -> Reply | None:
        """The model's answer; `None` beyond the budget, or if it refuses this document or does not answer."""
        if not self._budget.take():
            self._count("beyond_budget")
            return None
        try:
            reply = self._send(request, said)
        except AccessRefused:
            raise
        except (RequestRefused, ServerUnavailable) as error:
            self._budget.refund()
            self._count("unanswered")
            self._count_failure(error)
            return None
        self._failures = 0
        return reply

    def _send(self, request: str, said: str | None = None) -> Reply:
        messages = [{"role": "user", "content": request}]
        if said is not None:
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": AGAIN}]
        schema = SCHEMA if self._has_schema else None
        return self.client.chat(messages, self._sampling, schema=schema)[0]

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self.counts, name, getattr(self.counts, name) + 1)

    def _count_failure(self, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= MAX_FAILURES:
            raise RunFailed(
                f"{self._place} answered none of {failures} documents in a row ({error}); earlier answers are kept: "
                "run again when it is up"
            ) from error


def annotate_by_signals(signals: Measured) -> Assessment:
    """Scores a document and its sides from 0 to 5 by its signals, for runs without a model that annotates.

    Correctness counts parsing and linter findings; readability comments, lines and paths; security the findings of
    ruff's security rules; value functions, documentation and libraries.
    """
    lines = max(signals["lines"], 1)
    parses = 1.0 if signals["parses"] is None else float(signals["parses"])
    faults = (signals["faults"] or 0) + (signals["syntax_faults"] or 0) + signals["style_faults"]
    correctness = parses * max(0.0, 1 - 4 * faults / lines)
    comments = min((signals["comment_fraction"] or 0) / 0.15, 1.0)
    complexity = signals["complexity"] or 1.0
    readability = 0.5 * comments + 0.3 * max(0.0, 1 - max(complexity - 6, 0) / 12) + 0.2 * (signals["mean_line"] < 60)
    security = max(0.0, 1 - 20 * (signals["security_faults"] or 0) / lines)
    substance = min((signals["functions"] or 0) / 4, 1.0)
    known = min((signals["known_imports"] or 0) / 2, 1.0)
    value = 0.5 * substance + 0.2 * known + 0.3 * min(lines / 60, 1.0)
    value *= 1 - signals["duplicate_line_fraction"]
    score = 0.3 * correctness + 0.3 * readability + 0.1 * security + 0.3 * value
    return Assessment(*(MAX_SCORE * side for side in (score, correctness, readability, security, value)))
