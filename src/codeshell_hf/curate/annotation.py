"""Quality scores from 0 to 5 for a sample, from a model behind an endpoint or computed from the signals."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError, RunFailed
from ..text.cache import JsonLinesCache
from ..text.client import Budget, Client, read_token
from ..text.failures import RequestRefused, ServerUnavailable
from ..text.sampling import Sampling
from .preference_score import Measured
from .settings import Endpoint

MAX_SCORE = 5
TRIES = 4
TIMEOUT_S = 120.0
SECTION = "quality.endpoint"
PROMPT = Path(__file__).with_name("quality_prompt.md")
_SCORE = re.compile(r"[Ss]core\W{0,8}([0-5])\b(?!\.\d)")
_logger = logging.getLogger(__name__)


def ask(
    endpoint: Endpoint,
    documents: Sequence[tuple[str, str]],
    cache: JsonLinesCache,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[int | None]:
    """Requests scores from a model; `None` without an answer, or after the budget is spent.

    Args:
        documents: Text and language of each.
        cache: Earlier answers, which are reused; new ones are added.
        on_progress: Called with the documents done and their total.

    Raises:
        DataError: If the prompt cannot be read or lacks `{text}`.
        RunFailed: If no request was answered.
    """
    path = endpoint.prompt or PROMPT
    try:
        prompt = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"prompt {path} cannot be read ({error.strerror}); name a file") from error
    if "{text}" not in prompt:
        raise DataError(f"prompt {path} has no {{text}}; write it where the document goes")
    token = read_token(endpoint, SECTION)
    client = Client(endpoint.url, endpoint.model, token, endpoint.calls_at_once, TIMEOUT_S, TRIES)
    scores: list[int | None] = [None] * len(documents)
    failures: list[str] = []
    budget = Budget(max(endpoint.max_answers - len(cache), 0))

    def answer(place: int) -> None:
        text, language = documents[place]
        question = prompt.replace("{language}", language).replace("{text}", text[: endpoint.max_characters])
        key = hashlib.sha256(json.dumps([endpoint.model, question]).encode()).hexdigest()
        if (row := cache.get(key)) is not None:
            scores[place] = int(str(row["score"]))
        elif budget.take():
            scores[place] = _ask_for_score(client, question, key, cache, failures)
            if scores[place] is None:
                budget.refund()

    for done, _ in enumerate(client.map(answer, range(len(documents))), 1):
        on_progress(done, len(documents))
    if documents and failures and all(score is None for score in scores):
        raise RunFailed(
            f"{endpoint.model} at {endpoint.url or 'the Hub'} answered no request ({failures[-1]}); check that it is up"
        )
    if missing := sum(score is None for score in scores):
        budget_spent = f"no answer, or the budget of {endpoint.max_answers} is spent"
        _logger.warning("%d of %d documents have no score: %s", missing, len(scores), budget_spent)
    return scores


def _ask_for_score(client: Client, question: str, key: str, cache: JsonLinesCache, failures: list[str]) -> int | None:
    for _ in range(client.tries):
        try:
            [reply, *_] = client.chat([{"role": "user", "content": question}], Sampling(256))
        except (RequestRefused, ServerUnavailable) as error:
            failures.append(str(error))
            return None
        score = read_score(reply.text)
        if score is not None:
            cache.add(key, {"score": score, "answer": reply.text})
            return score
        failures.append(f"no score in {reply.text[:80]!r}")
    return None


def read_score(answer: str) -> int | None:
    r"""Reads the last score, 0 to 5, in an answer.

    >>> read_score("Clear and tested.\n**Score:** 4"), read_score("Score: 7")
    (4, None)
    """
    found = _SCORE.findall(answer)
    return int(found[-1]) if found else None


def annotate_by_signals(signals: Measured) -> float:
    """Scores a document from 0 to 5 by its signals, for runs without a model that annotates.

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
    return MAX_SCORE * (0.3 * correctness + 0.3 * readability + 0.1 * security + 0.3 * value)
