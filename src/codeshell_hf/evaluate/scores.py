"""A task's score: measures with intervals, and a few answers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NotRequired, TypedDict

from ..text.intervals import mean_interval
from .metrics import code_bleu_interval, code_bleu_like, edit_similarity, is_exact
from .problems import Problem, Row
from .published import TaskName

SHOWN = 3
DIGITS = 4


@dataclass
class Measure:
    """A mean over problems, with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    problems: int


class ProblemRow(TypedDict):
    """The result of one problem; `base` is the id of the one that it was made from, with others."""

    id: str
    language: str
    samples: int
    right: float
    reasons: NotRequired[dict[str, int]]
    base: NotRequired[str]


@dataclass
class Score:
    """A task's result.

    Args:
        measures: By name, over all problems.
        languages: By language, then by name.
        missing_toolchains: Number of problems that were not scored, by language.
        samples: A few scored answers.
        notes: How a measure was computed, by the measure's name.
        shown_name: What the task is called in tables.
        touched: Number of problems that touch the training data; `None` if these are not known.
        clean: Measures of right answers on the other problems.
    """

    measures: dict[str, Measure] = field(default_factory=dict)
    languages: dict[str, dict[str, Measure]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    missing_toolchains: dict[str, int] = field(default_factory=dict)
    problems: list[ProblemRow] = field(default_factory=list)
    samples: list[dict[str, object]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    shown_name: TaskName = field(default_factory=TaskName)
    touched: int | None = None
    clean: dict[str, Measure] = field(default_factory=dict)

    def to_values(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)

    def to_summary(self) -> dict[str, object]:
        """JSON values without single problems and answers."""
        values = self.to_values()
        return {name: values[name] for name in ("shown_name", "measures", "languages", "counts", "touched", "clean")}

    @classmethod
    def from_values(cls, values: Row) -> "Score":
        """Reads a score from JSON values."""
        measures = {name: Measure(**own) for name, own in values["measures"].items()}
        languages = {
            language: {name: Measure(**own) for name, own in measures.items()}
            for language, measures in values["languages"].items()
        }
        read = {"measures": measures, "languages": languages, "shown_name": TaskName(**values["shown_name"])}
        read["clean"] = {name: Measure(**own) for name, own in values["clean"].items()}
        return cls(**{**values, **read})


def make_score(values: Mapping[str, Sequence[float]], languages: Sequence[str]) -> Score:
    """Computes means over all problems and by language; `values` are by name, one for each problem."""
    score = Score()
    for name, numbers in values.items():
        if not numbers:
            continue
        score.measures[name] = measure(numbers)
        for language in dict.fromkeys(languages):
            own = [number for number, of in zip(numbers, languages, strict=True) if of == language]
            score.languages.setdefault(language, {})[name] = measure(own)
    return score


def mean_by_base(values: Sequence[float], bases: Sequence[str]) -> list[float]:
    """The mean of the values with the same base, in the order in which bases appear.

    Problems that were made from one problem are no independent ones, and would make intervals too narrow.
    """
    grouped: dict[str, list[float]] = {}
    for value, base in zip(values, bases, strict=True):
        grouped.setdefault(base, []).append(value)
    return [mean(own) for own in grouped.values()]


def measure(numbers: Sequence[float]) -> Measure:
    """Computes a mean and its interval."""
    low, high = mean_interval(numbers)
    mean = sum(numbers) / len(numbers)
    return Measure(round(mean, DIGITS), round(low, DIGITS), round(high, DIGITS), len(numbers))


def score_texts(problems: Sequence[Problem], written: Mapping[str, Sequence[str]], *, has_bleu: bool) -> Score:
    """Compares texts with references: "exact match", and with `has_bleu` also "edit similarity" and "bleu".

    BLEU is that of the first answers as one corpus.
    """
    pairs = [(problem, list(written[problem.key])) for problem in problems]
    values = {"exact match": [mean([float(is_exact(text, p.reference or "")) for text in texts]) for p, texts in pairs]}
    if has_bleu:
        values["edit similarity"] = [
            mean([edit_similarity(text, problem.reference or "") for text in texts]) for problem, texts in pairs
        ]
    score = make_score(values, [problem.language for problem in problems])
    score.counts = {"problems": len(problems), "samples": sum(len(texts) for _, texts in pairs)}
    score.problems = [
        {"id": problem.id, "language": problem.language, "samples": len(texts), "right": round(value * len(texts))}
        for (problem, texts), value in zip(pairs, values["exact match"], strict=True)
    ]
    if has_bleu:
        first, references = [texts[0] for _, texts in pairs], [problem.reference or "" for problem in problems]
        bleu, signature = code_bleu_like(first, references)
        low, high = code_bleu_interval(first, references)
        score.measures["bleu"] = Measure(round(bleu, DIGITS), round(low, DIGITS), round(high, DIGITS), len(pairs))
        score.notes["bleu"] = signature
    score.samples = [
        {"id": problem.id, "reference": problem.reference, "written": texts[0] if texts else ""}
        for problem, texts in pairs[:SHOWN]
    ]
    return score


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of an empty sequence."""
    return sum(values) / len(values) if values else 0.0


def count_ends(ends: Sequence[str]) -> dict[str, int]:
    """Counts the answers that stopped, reached the limit, or had no room after a long prompt."""
    counted = Counter(ends)
    return {f"ended by {end}" if end != "prompt too long" else end: counted[end] for end in sorted(counted)}
