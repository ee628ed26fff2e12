"""Single lines of files that were not trained on: one is taken out and must be written back, letter for letter."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..text.intervals import share_interval
from .metrics import is_exact
from .problems import Problem

MIN_LINE, MAX_LINE = 8, 80
SHOWN, SHOWN_CONTEXT = 6, 240


def take_lines(documents: Iterable[Mapping[str, str]], *, per_language: int, seed: int) -> list[Problem]:
    """Takes one line out of each document, until each language has enough.

    Args:
        documents: Each with `id`, `language` and `text`.
        per_language: How many problems a language gets at most.
        seed: Decides the lines.

    Returns:
        Problems in the order of the documents. The line has between 8 and 80 characters and a letter.
    """
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    for number, document in enumerate(documents):
        language = document["language"]
        if counts.get(language, 0) >= per_language:
            continue
        lines = document["text"].split("\n")
        fitting = [index for index, line in enumerate(lines) if is_fitting(line)]
        if len(fitting) < 3:
            continue
        index = int(np.random.default_rng([seed, number]).choice(fitting[1:-1]))
        prefix, suffix = "\n".join([*lines[:index], ""]), "\n".join(["", *lines[index + 1 :]])
        problems.append(Problem(document["id"], language, prefix, suffix, lines[index]))
        counts[language] = counts.get(language, 0) + 1
    return problems


def is_fitting(line: str) -> bool:
    """Whether a line is worth filling in.

    Args:
        line: A line.

    Returns:
        True for 8 to 80 characters with a letter among them.
    """
    stripped = line.strip()
    return MIN_LINE <= len(stripped) <= MAX_LINE and any(c.isalpha() for c in stripped)


def find_line(text: str) -> str:
    r"""Finds the line in what was written.

    Args:
        text: All of it.

    Returns:
        The first line that is not blank.

    >>> find_line("\n  x = 1\ny")
    '  x = 1'
    """
    return next((line for line in text.split("\n") if line.strip()), "")


def score_lines(problems: Sequence[Problem], written: Mapping[str, str]) -> dict[str, dict[str, float | int]]:
    """Counts exact matches.

    Args:
        problems: The lines.
        written: What stands in their place, by problem.

    Returns:
        `tasks`, `exact`, `exact_match` (0 to 1) and its 95 % interval, `low` to `high`, by language, and "all".
    """
    counts: dict[str, list[int]] = {"all": [0, 0]}
    for problem in problems:
        for name in (problem.language, "all"):
            counts.setdefault(name, [0, 0])
            counts[name][0] += 1
            counts[name][1] += is_exact(written[problem.key], problem.reference or "")
    scores: dict[str, dict[str, float | int]] = {}
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


def show_lines(problems: Sequence[Problem], written: Mapping[str, str]) -> list[dict[str, Any]]:
    """Chooses a few for a page, exact ones first, each with its nearest context.

    Args:
        problems: The lines.
        written: What stands in their place, by problem.

    Returns:
        Plain values.
    """
    rows = [
        {
            "id": problem.id,
            "language": problem.language,
            "prefix": problem.prompt[-SHOWN_CONTEXT:],
            "line": problem.reference,
            "suffix": (problem.suffix or "")[:SHOWN_CONTEXT],
            "written": written[problem.key],
            "is_exact": is_exact(written[problem.key], problem.reference or ""),
        }
        for problem in problems
    ]
    return sorted(rows, key=lambda row: (not row["is_exact"], row["id"]))[:SHOWN]
