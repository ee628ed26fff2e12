"""Counts the problems that touch the training data, and scores the others by themselves."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..errors import DataError
from ..manifest import read_manifest
from ..text.documents import list_parts, read_documents
from ..text.word_hashes import MIN_WORDS, WORDS, hash_text, roll
from .metrics import pass_at_k
from .problems import Problem, read_rows
from .results import ResultCache
from .scores import Measure, Score, mean_by_base, measure
from .tasks import Task

logger = logging.getLogger(__name__)
# Measures that are the share of right answers to each problem.
SHARES = ("exact match", "right tests", "accuracy", "strict-match")
Texts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TrainingData:
    """What the models were trained on.

    Args:
        documents: Output of `curate`, of which the training split is read.
        files: Further files, such as conversations: JSON Lines, JSON, CSV, Parquet or text.
    """

    documents: Path | None = None
    files: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return self.documents is not None or bool(self.files)

    def describe(self) -> list[object]:
        """What changes if the data do."""
        paths = [*self.files, *(list_parts(self.documents) if self.documents is not None else [])]
        stated = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        manifest = read_manifest(self.documents) if self.documents is not None else None
        return [manifest.fingerprint] if manifest is not None and not self.files else list(stated)

    def read(self) -> Iterator[str]:
        """Reads every text."""
        if self.documents is not None:
            yield from (row["text"] for row in read_documents(self.documents, split="train", columns=["text"]))
        for file in self.files:
            if file.suffix in (".txt", ".md"):
                yield file.read_text(encoding="utf-8", errors="replace")
            else:
                yield from (text for _, row in read_rows(file) for text in _list_texts(row))


def _list_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for part in value.values() for text in _list_texts(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in _list_texts(part))


def list_texts(problem: Problem) -> list[str]:
    """What of a problem would be a leak if it was trained on: what is asked, and what answers it."""
    texts = [problem.prompt, problem.suffix, problem.reference, problem.notes.get("text"), problem.notes.get("code")]
    return [text for text in texts if isinstance(text, str)]


def find_touched(problems: Texts, training: Iterable[str]) -> frozenset[str]:
    """Finds the problems that share ten consecutive words with a training text, ignoring case and punctuation.

    Of texts with six to nine words, all have to be shared; shorter ones are not specific enough to be searched for.

    Args:
        problems: The texts of each, by its key.

    Returns:
        The keys of those that do.

    Source:
        As `curate` removes benchmarks; 10-gram overlap of Qwen2.5-Coder (Hui et al. 2024, arXiv:2409.12186).
    """
    owners: dict[int, dict[int, list[str]]] = {}
    for key, texts in problems.items():
        for text in texts:
            words = hash_text(text.encode("utf-8", "replace"))
            if len(words) >= MIN_WORDS:
                size = min(len(words), WORDS)
                for value in roll(words, size).tolist():
                    owners.setdefault(size, {}).setdefault(value, []).append(key)
    sought = {size: np.array(sorted(values), np.uint64) for size, values in owners.items()}
    found: dict[int, set[int]] = {size: set() for size in sought}
    for text in training:
        words = hash_text(text.encode("utf-8", "replace"))
        for size, values in sought.items():
            found[size].update(_intersect(roll(words, size), values))
    return frozenset(key for size, values in found.items() for value in values for key in owners[size][value])


def _intersect(rolled: NDArray[np.uint64], values: NDArray[np.uint64]) -> list[int]:
    places = np.minimum(np.searchsorted(values, rolled), len(values) - 1)
    shared: list[int] = np.unique(rolled[values[places] == rolled]).tolist()
    return shared


def mark_touched(
    tasks: Sequence[Task], questions: Mapping[str, Texts], training: TrainingData, cache: ResultCache
) -> tuple[list[Task], dict[str, frozenset[str]]]:
    """Searches the training data once for the problems of all tasks, or reads what an earlier run found.

    Args:
        questions: By benchmark of the harness, the texts of each question.

    Returns:
        The tasks with the problems that touch the data, and those of the harness; without training data, neither is
        known.

    Raises:
        DataError: If a file of the training data cannot be read.
    """
    if not training:
        return list(tasks), {}
    # Memorisation is measured on training files, and needs no search.
    searched = [task for task in tasks if task.profile.measure != "memorisation"]
    texts = {f"{task.name}\n{problem.key}": list_texts(problem) for task in searched for problem in task.problems} | {
        f"{name}\n{key}": list(own) for name, of_name in questions.items() for key, own in of_name.items()
    }

    def compute() -> dict[str, object]:
        bar = tqdm(training.read(), desc="problems in the training data", unit="text", disable=None)
        return {"touched": sorted(find_touched(texts, bar))}

    try:
        values = cache.compute("touched", [texts, training.describe()], compute)
    except OSError as error:
        raise DataError(f"the training data cannot be read ({error}); name files under trained_on") from error
    by_task: dict[str, set[str]] = {name: set() for name in (*(task.name for task in searched), *questions)}
    for found in values["touched"]:
        name, _, key = found.partition("\n")
        by_task[name].add(key)
    marked = [replace(task, touched=frozenset(by_task[task.name])) if task.name in by_task else task for task in tasks]
    return marked, {name: frozenset(by_task[name]) for name in questions}


def add_clean(score: Score, touched: frozenset[str] | None) -> Score:
    """Adds how many problems touch the training data, and each measure of right answers on the others."""
    if touched is None:
        return score
    rows = [row for row in score.problems if f"{row['language']}/{row['id']}" not in touched]
    score.touched = len(touched)
    for name in score.measures:
        values = None
        k = int(name.removeprefix("pass@")) if name.removeprefix("pass@").isdecimal() else None
        if k is not None:
            values = [pass_at_k(row["samples"], round(row["right"]), k) for row in rows]
        elif name in SHARES:
            values = [row["right"] / max(1, row["samples"]) for row in rows]
        if values:
            score.clean[name] = measure(
                mean_by_base(values, [row.get("base", row["id"] + row["language"]) for row in rows])
            )
    return score


def describe_touched(title: str, problems: int, scores: Mapping[str, Score]) -> str:
    """A line on the problems of a task that touch the training data, with the figures of each model on the others.

    >>> describe_touched("HumanEval", 164, {"base": Score(touched=0)})
    'HumanEval: none of 164 problems touches the training data'
    """
    counts = [score.touched for score in scores.values() if score.touched is not None]
    if not counts:
        return f"{title}: whether its problems touch the training data is not known; set documents or trained_on"
    if not max(counts):
        return f"{title}: none of {problems:,} problems touches the training data"
    cells: list[str] = []
    for model, score in scores.items():
        cells += [f"{model} {name} {_format(clean)}" for name, clean in list(score.clean.items())[:1]]
    figures = f"; on the others: {', '.join(cells)}" if cells else ""
    return f"{title}: {max(counts):,} of {problems:,} problems touch the training data{figures}"


def _format(clean: Measure) -> str:
    return f"{100 * clean.value:.1f} [{100 * clean.low:.1f}, {100 * clean.high:.1f}]"
