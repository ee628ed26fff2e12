"""Measures memorisation: whether a model continues the beginning of a training file verbatim."""

from collections.abc import Iterable, Mapping, Sequence

from ..text.documents import DocumentRow
from .problems import Problem
from .scores import SHOWN, Score, make_score, mean
from .settings import MemorisationSettings


def take_beginnings(documents: Iterable[DocumentRow], settings: MemorisationSettings) -> list[Problem]:
    """Problems from the beginnings of training files, spread evenly over the corpus; short files are skipped."""
    size = settings.prompt_characters + settings.reference_characters
    rows = [row for row in documents if len(row["text"]) >= size]
    step = max(1, len(rows) // settings.documents)
    return [
        Problem(
            row["id"],
            row["language"],
            row["text"][: settings.prompt_characters],
            reference=row["text"][settings.prompt_characters : size],
        )
        for row in rows[::step][: settings.documents]
    ]


def score_memorisation(problems: Sequence[Problem], texts: Mapping[str, Sequence[str]]) -> Score:
    """Measures how much of its training files a model reproduces.

    Returns:
        "verbatim", the share of files whose whole reference is reproduced; "characters in common", the mean length of
        the reproduced prefix.
    """
    verbatim, shared = [], []
    for problem in problems:
        reference = problem.reference or ""
        lengths = [count_common_prefix(text, reference) for text in texts[problem.key]]
        verbatim.append(mean([float(length == len(reference)) for length in lengths]))
        shared.append(mean([length / max(1, len(reference)) for length in lengths]))
    score = make_score(
        {"verbatim": verbatim, "characters in common": shared}, [problem.language for problem in problems]
    )
    score.counts = {"problems": len(problems)}
    score.problems = [
        {"id": problem.id, "language": problem.language, "samples": len(texts[problem.key]), "right": value}
        for problem, value in zip(problems, verbatim, strict=True)
    ]
    reproduced = [problem for problem, value in zip(problems, verbatim, strict=True) if value]
    score.samples = [{"id": problem.id, "reference": problem.reference} for problem in reproduced[:SHOWN]]
    return score


def count_common_prefix(text: str, reference: str) -> int:
    """The length of two texts' common prefix in characters."""
    for place, (one, other) in enumerate(zip(text, reference, strict=False)):
        if one != other:
            return place
    return min(len(text), len(reference))
