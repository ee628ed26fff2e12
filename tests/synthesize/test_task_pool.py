"""What steps drop, and what is written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from codeshell_hf.synthesize.program_checks import CheckOutcome
from codeshell_hf.synthesize.settings import CheckSettings
from codeshell_hf.synthesize.task_pool import AskedTask, TaskPool
from codeshell_hf.synthesize.task_rules import SynthesizedTask
from codeshell_hf.text.replies import Reply


@dataclass(frozen=True)
class Found:
    benchmark: str = ""
    overlap: float = 0.0
    place: int = 0
    jaccard: float = 0.0


def make(number: int, **changes: object) -> SynthesizedTask:
    task = SynthesizedTask(f"t{number}", f"d{number}:1", "MIT", "en", f"problem {number}", f"answer {number}", "", "t")
    return replace(replace(task, program=f"x = {number}"), **changes)  # type: ignore[arg-type]


def test_replies_become_tasks_or_reasons() -> None:
    problem = "Write `double(x)`, which returns twice a number."
    answer, tests = "def double(x):\n    return 2 * x", "assert double(1) == 2\nassert double(2) == 4"
    reply = f"[Problem]\n{problem}\n[Answer]\n{answer}\n[Tests]\n{tests}"
    pool = TaskPool()

    pool.read(
        [
            AskedTask("a", "d:1", "MIT", "en", "", Reply(reply, "stop")),
            AskedTask("b", "d:2", None, "zh", "", Reply(reply, "stop")),
            AskedTask("c", "d:3", None, "en", "", Reply(reply, "length")),
            AskedTask("d", "d:4", None, "en", "", None, "budget-spent"),
        ],
        CheckSettings(),
        "given",
    )

    assert [(task.id, task.source, task.licence, task.problem) for task in pool.tasks] == [("a", "d:1", "MIT", problem)]
    assert [(one.id, one.reason, one.language) for one in pool.dropped] == [
        ("b", "wrong-language", "zh"), ("c", "truncated", "en"), ("d", "budget-spent", "en"),
    ]  # fmt: skip


def test_each_of_a_tasks_texts_is_searched_for_benchmarks() -> None:
    pool = TaskPool([make(1, problem="bad"), make(2, program="bad"), make(3, tests="bad"), make(4, answer="bad")])

    pool.drop_contaminated(lambda text: Found("HumanEval", 0.75) if text == b"bad" else None, 0.5)

    assert [task.id for task in pool.tasks] == ["t4"]
    assert {(one.reason, one.value, one.threshold, one.detail) for one in pool.dropped} == {
        ("contaminated", 0.75, 0.5, "HumanEval")
    }


def test_copies_name_the_task_that_stays() -> None:
    pool = TaskPool([make(1), make(2), make(3, problem="problem 1")])
    pool.drop_exact_copies()
    pool.drop_near_copies(lambda texts: [None, Found(place=0, jaccard=0.9)], 0.7)

    assert [task.id for task in pool.tasks] == ["t1"]
    assert [(one.id, one.reason, one.value, one.threshold, one.detail) for one in pool.dropped] == [
        ("t3", "exact-duplicate", 1.0, 1.0, "of t1"), ("t2", "near-duplicate", 0.9, 0.7, "of t1"),
    ]  # fmt: skip


def test_near_copies_are_sought_in_problem_and_program() -> None:
    asked: list[str] = []

    def find(texts: Sequence[str]) -> list[None]:
        asked.extend(texts)
        return [None] * len(texts)

    TaskPool([make(1)]).drop_near_copies(find, 0.7)

    assert asked == ["problem 1\nx = 1"]


def test_outcomes_of_the_sandbox_drop_tasks() -> None:
    pool = TaskPool()
    bad = CheckOutcome("weak-tests", 0.25, 0.5, mutants=4, killed=1)

    pool.take_outcomes([(make(1, mutants=4, killed=3), CheckOutcome(mutants=4, killed=3)), (make(2), bad)])

    assert [(task.id, task.killed) for task in pool.tasks] == [("t1", 3)]
    assert [(one.reason, one.value, one.threshold) for one in pool.dropped] == [("weak-tests", 0.25, 0.5)]


def test_tasks_are_rated_by_further_answers() -> None:
    pool = TaskPool([make(1), make(2), make(3)])
    pool.rate([[True, False, False], [], [False, False]], 0.2)

    assert [(task.id, task.pass_rate) for task in pool.tasks] == [("t1", 0.3333), ("t2", None)]
    assert [(one.id, one.reason, one.value, one.threshold) for one in pool.dropped] == [("t3", "unsolved", 0.0, 0.2)]


def test_hard_tasks_are_those_that_few_answers_pass_and_then_those_with_most_mutants() -> None:
    pool = TaskPool([
        make(1, pass_rate=1.0, mutants=9), make(2, pass_rate=0.25), make(3, mutants=2), make(4, pass_rate=0.0),
        make(5, pass_rate=1.0, mutants=1),
    ])  # fmt: skip

    assert [task.id for task in pool.choose_hard(0.4)] == ["t2", "t4"]
    assert [task.id for task in pool.choose_hard(0.6)] == ["t1", "t2", "t4"]
    assert [task.id for task in pool.choose_hard(0.01)] == ["t4"]
    assert pool.choose_hard(1.0) == pool.tasks


def test_files_and_lines_say_what_was_kept(tmp_path: Path) -> None:
    pool = TaskPool([make(1, pass_rate=0.5, mutants=4, killed=3), make(2, written_in="zh", mutants=2, killed=2)])
    pool.drop(make(3), "tests-fail", detail="NameError")
    pool.drop(make(4), "tests-fail")

    assert pool.write(tmp_path, hard_fraction=0.5) == {"kept": 2, "hard": 1}

    rows = [json.loads(line) for line in (tmp_path / "conversations.jsonl").read_text().split("\n")[:-1]]
    assert rows[1] == {
        "language": "zh",
        "messages": [{"role": "user", "content": "problem 2"}, {"role": "assistant", "content": "answer 2"}],
        "tests": "t",
    }
    assert json.loads((tmp_path / "hard.jsonl").read_text()) == rows[0]
    origins = [json.loads(line) for line in (tmp_path / "origins.jsonl").read_text().split("\n")[:-1]]
    assert origins[0] == {
        "id": "t1", "source": "d1:1", "licence": "MIT", "written_in": "en", "mutants": 4, "killed": 3, "pass_rate": 0.5,
    }  # fmt: skip
    dropped = pq.read_table(tmp_path / "dropped.parquet").to_pylist()
    assert dropped[0] == {
        "id": "t3", "source": "d3:1", "language": "en", "reason": "tests-fail", "value": None, "threshold": None,
        "detail": "NameError",
    }  # fmt: skip
    assert pool.describe(4) == ["kept 2 of 4 (1 in en, 1 in zh) | tests-fail 2"]
    assert pool.measure() == {"killed_fraction": 0.875, "pass_rate": 0.5}
