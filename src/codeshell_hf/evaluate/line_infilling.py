"""Single-line infilling: a line is removed from a held-out file and must be filled in exactly."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from ..text.documents import DocumentRow
from ..text.intervals import share_interval
from .metrics import is_exact
from .problems import Problem

MIN_LINE, MAX_LINE = 8, 80
SHOWN, SHOWN_CONTEXT = 6, 240


class LineScore(TypedDict):
    """Exact matches, in total or for a language."""

    tasks: int
    exact: int
    exact_match: float
    low: float
    high: float


def take_lines(documents: Iterable[DocumentRow], *, per_language: int, seed: int) -> list[Problem]:
    """Removes one line from each document, up to `per_language` lines of each language.

    Documents need `id`, `language` and `text`; problems have their order.
    """
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    for number, document in enumerate(documents):
        language = document["language"]
        if counts.get(language, 0) >= per_language:
            continue
        lines = document["text"].split("\n")
        eligible = [index for index, line in enumerate(lines) if is_eligible(line)]
        if len(eligible) < 3:
            continue
        index = int(np.random.default_rng([seed, number]).choice(eligible[1:-1]))
        prefix, suffix = "\n".join([*lines[:index], ""]), "\n".join(["", *lines[index + 1 :]])
        problems.append(Problem(document["id"], language, prefix, suffix, lines[index]))
        counts[language] = counts.get(language, 0) + 1
    return problems


def is_eligible(line: str) -> bool:
    """Whether a line is worth filling in: 8 to 80 characters, at least one of them a letter."""
    stripped = line.strip()
    return MIN_LINE <= len(stripped) <= MAX_LINE and any(c.isalpha() for c in stripped)


def first_line(text: str) -> str:
    r"""The first non-blank line of an answer.

    >>> first_line("\n  x = 1\ny")
    '  x = 1'
    """
    return next((line for line in text.split("\n") if line.strip()), "")


def score_lines(problems: Sequence[Problem], lines: Mapping[str, str]) -> dict[str, LineScore]:
    """Counts exact matches of `lines`, by the problem's key, for each language and for "all"."""
    counts: dict[str, list[int]] = {"all": [0, 0]}
    for problem in problems:
        for name in (problem.language, "all"):
            counts.setdefault(name, [0, 0])
            counts[name][0] += 1
            counts[name][1] += is_exact(lines[problem.key], problem.reference or "")
    scores: dict[str, LineScore] = {}
    for name, (tasks, exact) in counts.items():
        low, high = share_interval(exact, tasks)
        share = exact / tasks if tasks else 0.0
        scores[name] = {
            "tasks": tasks,
            "exact": exact,
            "exact_match": round(share, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    return scores


def show_lines(problems: Sequence[Problem], lines: Mapping[str, str]) -> list[dict[str, object]]:
    """Chooses a few samples for a page, exact matches first, each with its nearest context."""

    def is_right(problem: Problem) -> bool:
        return is_exact(lines[problem.key], problem.reference or "")

    ordered = sorted(problems, key=lambda problem: (not is_right(problem), problem.id))
    return [
        {
            "id": problem.id,
            "language": problem.language,
            "prefix": problem.prompt[-SHOWN_CONTEXT:],
            "line": problem.reference,
            "suffix": (problem.suffix or "")[:SHOWN_CONTEXT],
            "written": lines[problem.key],
            "is_exact": is_right(problem),
        }
        for problem in ordered[:SHOWN]
    ]
