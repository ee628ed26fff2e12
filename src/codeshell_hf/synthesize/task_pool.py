"""The tasks of a run: each step drops some, with a reason, and what is left is written."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ..text.replies import Reply
from .program_checks import CheckOutcome
from .reply_parts import read_parts
from .settings import AnswersAs, CheckSettings, WrittenIn
from .task_rules import DroppedTask, RuleBroken, SynthesizedTask, find_exact_copies, make_task

CONVERSATIONS, HARD, PAIRS, ORIGINS, DROPPED = (
    *("conversations.jsonl", "hard.jsonl", "pairs.jsonl"),
    *("origins.jsonl", "dropped.parquet"),
)
# As in curation's file of dropped documents.
DROPPED_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "source", "language", "reason")),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class AskedTask:
    """A request for a task, and its reply.

    Args:
        source: The document and line of the seed.
        reply: `None` if there is none, for a `reason`.
        answers: Further answers that came with a recorded reply.
    """

    id: str
    source: str
    licence: str | None
    written_in: WrittenIn
    seed_text: str
    reply: Reply | None
    reason: str | None = None
    answers: tuple[Reply, ...] = ()


class Touch(Protocol):
    """A benchmark that a text touches, and the share of the benchmark's text."""

    @property
    def benchmark(self) -> str:
        """Its name."""

    @property
    def overlap(self) -> float:
        """From 0 to 1."""


class NearEarlier(Protocol):
    """An earlier text that is near."""

    @property
    def place(self) -> int:
        """Its place."""

    @property
    def jaccard(self) -> float:
        """Its similarity."""


@dataclass
class TaskPool:
    """Tasks that are left, in the order of their requests, and those that were dropped."""

    tasks: list[SynthesizedTask] = field(default_factory=list)
    dropped: list[DroppedTask] = field(default_factory=list)

    def read(self, asked: Iterable[AskedTask], checks: CheckSettings, answers_as: AnswersAs) -> None:
        """Makes tasks of replies; drops those that cannot be read or break a rule."""
        for one in asked:
            draft = SynthesizedTask(one.id, one.source, one.licence, one.written_in, "", "", "", "")
            if one.reply is None:
                self.drop(draft, one.reason or "unreadable")
                continue
            parts = read_parts(one.reply.text, one.reply.finish_reason)
            if isinstance(parts, str):
                self.drop(draft, parts)
                continue
            try:
                self.tasks.append(make_task(parts, draft, one.seed_text, checks, answers_as))
            except RuleBroken as broken:
                self.drop(draft, broken.reason, broken.value, broken.threshold, broken.detail)

    def drop(
        self,
        task: SynthesizedTask,
        reason: str,
        value: float | None = None,
        threshold: float | None = None,
        detail: str | None = None,
    ) -> None:
        """Notes that a task is dropped."""
        self.dropped.append(DroppedTask(task.id, task.source, task.written_in, reason, value, threshold, detail))

    def drop_contaminated(self, find: Callable[[bytes], "Touch | None"], threshold: float) -> None:
        """Drops tasks of which the problem, the program or the tests touch a benchmark.

        Args:
            find: What a text touches.
            threshold: The share of a benchmark's text that counts.
        """
        left = []
        for task in self.tasks:
            texts = (text.encode("utf-8", "replace") for text in (task.problem, task.program, task.tests))
            found = next((hit for text in texts if (hit := find(text))), None)
            if found is None:
                left.append(task)
            else:
                self.drop(task, "contaminated", round(found.overlap, 4), threshold, found.benchmark)
        self.tasks = left

    def take_outcomes(self, outcomes: Iterable[tuple[SynthesizedTask, CheckOutcome]]) -> None:
        """Keeps the tasks that pass the sandbox."""
        self.tasks = []
        for task, outcome in outcomes:
            if outcome.reason is None:
                self.tasks.append(task)
            else:
                self.drop(task, outcome.reason, outcome.value, outcome.threshold, outcome.detail)

    def drop_exact_copies(self) -> None:
        """Drops tasks with the problem or the program of an earlier one."""
        places = find_exact_copies(self.tasks)
        self._drop_places([(None, None) if place is None else (place, 1.0) for place in places], "exact-duplicate", 1.0)

    def drop_near_copies(
        self, find: Callable[[Sequence[str]], "Sequence[NearEarlier | None]"], threshold: float
    ) -> None:
        """Drops near copies of earlier tasks; `find` gives for each text the earlier one that it is near, if any."""
        found = find([f"{task.problem}\n{task.program}" for task in self.tasks])
        places = [(None, None) if hit is None else (hit.place, hit.jaccard) for hit in found]
        self._drop_places(places, "near-duplicate", threshold)

    def _drop_places(self, places: Sequence[tuple[int | None, float | None]], reason: str, threshold: float) -> None:
        left = []
        for task, (place, value) in zip(self.tasks, places, strict=True):
            if place is None:
                left.append(task)
            else:
                share = None if value is None else round(value, 4)
                self.drop(task, reason, share, threshold, f"of {self.tasks[place].id}")
        self.tasks = left

    def rate(self, passes: Sequence[Sequence[bool]], min_pass_rate: float) -> None:
        """Notes the share of further answers that pass, and drops tasks that too few solve; `None` where none came."""
        left = []
        for task, own in zip(self.tasks, passes, strict=True):
            rate = round(sum(own) / len(own), 4) if own else None
            if rate is not None and rate < min_pass_rate:
                self.drop(task, "unsolved", rate, min_pass_rate)
            else:
                left.append(replace(task, pass_rate=rate))
        self.tasks = left

    def count_dropped(self) -> dict[str, int]:
        """The number of dropped tasks by reason, the most frequent first."""
        counts = Counter(task.reason for task in self.dropped)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def count_licences(self) -> dict[str, int]:
        """The number of tasks that are left by the licence of their seed."""
        return dict(Counter(task.licence or "unknown" for task in self.tasks).most_common())

    def explain(self) -> str:
        """The reasons of dropped tasks with their numbers."""
        return ", ".join(f"{count} {reason}" for reason, count in self.count_dropped().items()) or "no replies"

    def measure(self) -> dict[str, object]:
        """The share of mutants that tests fail, and of further answers that pass, as means over tasks."""
        killed = [task.killed / task.mutants for task in self.tasks if task.mutants]
        rates = [task.pass_rate for task in self.tasks if task.pass_rate is not None]
        named = {"killed_fraction": killed, "pass_rate": rates}
        return {name: round(sum(values) / len(values), 4) for name, values in named.items() if values}

    def describe(self, asked: int) -> list[str]:
        """A line on what is left, by language, and why the others are not."""
        languages = Counter(task.written_in for task in self.tasks)
        named = ", ".join(f"{count} in {language}" for language, count in sorted(languages.items()))
        reasons = [f"{reason} {count:,}" for reason, count in self.count_dropped().items()]
        return [" | ".join([f"kept {len(self.tasks):,} of {asked:,} ({named})", *reasons])]

    def choose_hard(self, fraction: float) -> list[SynthesizedTask]:
        """The hardest tasks, at least one: those that the fewest further answers pass, then those with most mutants."""
        ranked = sorted(
            self.tasks, key=lambda task: (1.0 if task.pass_rate is None else task.pass_rate, -task.mutants, task.id)
        )
        chosen = {task.id for task in ranked[: math.ceil(fraction * len(ranked))]}
        return [task for task in self.tasks if task.id in chosen]

    def write(self, folder: Path, *, hard_fraction: float) -> dict[str, int]:
        """Writes conversations, the hard ones among them, origins and dropped tasks; returns how many of each."""
        hard = self.choose_hard(hard_fraction)
        for name, tasks in ((CONVERSATIONS, self.tasks), (HARD, hard)):
            write_rows(folder / name, [_make_row(task) for task in tasks])
        names = ("id", "source", "licence", "written_in", "mutants", "killed", "pass_rate")
        write_rows(folder / ORIGINS, [{name: getattr(task, name) for name in names} for task in self.tasks])
        rows = [asdict(task) for task in self.dropped]
        pq.write_table(pa.Table.from_pylist(rows, schema=DROPPED_SCHEMA), folder / DROPPED, compression="zstd")
        return {"kept": len(self.tasks), "hard": len(hard)}


def _make_row(task: SynthesizedTask) -> dict[str, object]:
    turns = [{"role": "user", "content": task.problem}, {"role": "assistant", "content": task.answer}]
    return {"language": task.written_in, "messages": turns, "tests": task.tests}


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Writes JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
