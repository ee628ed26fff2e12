"""Today's benchmarks: right answers pass before a model is judged, and an empty answer is worth nothing."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.evaluate.generation import Completion
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.evaluate.settings import TaskSettings
from codeshell_hf.evaluate.tasks import check_task, read_task, score_answers
from codeshell_hf.sandbox import Sandbox
from tests.evaluate.sets import SHARED, SMALL, requires_shared

PYTHON = [
    ("cruxeval-output-v1", "cruxeval.jsonl"),
    ("cruxeval-output-steps-v1", "cruxeval.jsonl"),
    ("cruxeval-input-v1", "cruxeval.jsonl"),
    ("livecodebench-v1", "livecodebench.jsonl"),
    ("livecodebench-base-v1", "livecodebench.jsonl"),
    ("humanevalfix-tests-v1", "humanevalfix-python.jsonl"),
    ("humanevalfix-docs-v1", "humanevalfix-python.jsonl"),
    ("humaneval-xl-v1", "humaneval-xl-python.jsonl"),
    ("safim-api-v1", "safim-api.jsonl"),
    ("repobench-v1", "repobench-cross_file_first.jsonl"),
    ("repobench-v1", "repobench-in_file.jsonl"),
    ("crosscodeeval-v1", "crosscodeeval.jsonl"),
]
COMPILED = [
    ("humanevalfix-tests-v1", "humanevalfix-js.jsonl", "node"),
    ("humanevalfix-tests-v1", "humanevalfix-java.jsonl", "javac"),
    ("humanevalfix-tests-v1", "humanevalfix-cpp.jsonl", "g++"),
    ("humanevalfix-tests-v1", "humanevalfix-rust.jsonl", "rustc"),
    ("humaneval-xl-v1", "humaneval-xl-java.jsonl", "javac"),
    ("humaneval-xl-v1", "humaneval-xl-javascript.jsonl", "node"),
    ("safim-block-v1", "safim-block.jsonl", "javac"),
    ("safim-control-v1", "safim-control.jsonl", "javac"),
]


def score(sandbox: Sandbox, profile: str, path: Path, answer: Callable[[Problem], str]) -> dict[str, float]:
    """The measures of one answer to each problem, as `evaluate` computes them."""
    task = check_task(read_task("task", TaskSettings(profile=profile, data=str(path))), sandbox)
    answers = {problem.key: [Completion(answer(problem), 1, "stop")] for problem in task.problems}
    found = score_answers(task, answers)
    assert found.missing_toolchains == {}
    return {name: measure.value for name, measure in found.measures.items()}


def write_right(problem: Problem) -> str:
    return str(problem.notes["answer"])


@pytest.mark.parametrize(("profile", "file"), PYTHON)
def test_right_answers_are_worth_everything_and_empty_ones_nothing(profile: str, file: str, sandbox: Sandbox) -> None:
    right = score(sandbox, profile, SMALL / file, write_right)
    empty = score(sandbox, profile, SMALL / file, lambda problem: "")

    assert right
    assert set(right.values()) == {1.0}
    assert set(empty.values()) == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "file", "compiler"), COMPILED)
def test_right_answers_in_other_languages(profile: str, file: str, compiler: str, sandbox: Sandbox) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    right = score(sandbox, profile, SMALL / file, write_right)
    empty = score(sandbox, profile, SMALL / file, lambda problem: "")

    assert right == {"pass@1": 1.0}
    assert empty == {"pass@1": 0.0}


@requires_shared
@pytest.mark.slow
@pytest.mark.parametrize("profile", ["cruxeval-output-v1", "cruxeval-input-v1"])
def test_all_right_answers_of_the_published_cruxeval_pass_apart_from_their_tests(
    profile: str, sandbox: Sandbox
) -> None:
    task = read_task("cruxeval", TaskSettings(profile=profile, data=str(SHARED / "cruxeval" / "cruxeval.jsonl")))

    checked = check_task(task, sandbox)

    assert task.title == "CRUXEval"
    assert len(task.problems) == 800
    assert checked.executor is not None
    assert (checked.executor.shared, checked.executor.unproven) == ({}, frozenset())


def test_other_data_in_these_forms_never_have_the_benchmark_as_a_name() -> None:
    for profile, file in (*PYTHON, *(pair[:2] for pair in COMPILED)):
        named = read_task("task", TaskSettings(profile=profile, data=str(SMALL / file))).shown_name

        assert (named.benchmark, named.dataset) == ("", ""), profile
        assert f"(in {PROFILES[profile].form[0]}'s form" in named.title


def test_a_changed_record_of_a_profile_is_still_that_of_older_results() -> None:
    """Settings that later benchmarks needed are recorded where they are set, so that stored answers stay valid."""
    assert "finish" not in PROFILES["humaneval-greedy-v1"].describe()
    assert PROFILES["cruxeval-input-v1"].describe()["finish"] == "take_call"


def test_every_fault_is_a_problem_and_problems_count_alike(tmp_path: Path, sandbox: Sandbox) -> None:
    task = read_task("fixing", TaskSettings(profile="fixing-v2", data=str(SMALL / "humaneval.jsonl")))
    touched = replace(task, touched=frozenset([task.problems[0].key]))

    checked = check_task(touched, sandbox)

    bases = [problem.notes["base"] for problem in checked.problems]
    assert max(map(bases.count, bases)) == 5
    assert len({problem.key for problem in checked.problems}) == len(bases)
    assert len({problem.notes["mutant"] for problem in checked.problems}) == len(bases)
    assert checked.touched == frozenset(one.key for one in checked.problems if one.notes["base"] == bases[0])
    # One right answer to a problem of five faults, and none to the others.
    solved = checked.problems[0]
    answers = {
        problem.key: [Completion(f"\n{problem.reference}" if problem is solved else "", 1, "stop")]
        for problem in checked.problems
    }
    found = score_answers(checked, answers)
    share = 1 / bases.count(bases[0])
    assert found.measures["pass@1"].value == pytest.approx(share / len(set(bases)), abs=1e-4)
    assert found.measures["pass@1"].problems == len(set(bases))


def make_contest(key: str, day: str, private: str) -> dict[str, str]:
    return {
        "question_title": "t", "question_content": "Print 1.", "platform": "atcoder", "question_id": key,
        "contest_id": "c", "contest_date": f"{day}T00:00:00", "starter_code": "", "difficulty": "easy",
        "public_test_cases": '[{"input": "", "output": "1", "testtype": "stdin"}]', "private_test_cases": private,
        "metadata": "{}",
    }  # fmt: skip


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_window_of_dates_includes_both_ends_and_is_named(tmp_path: Path) -> None:
    rows = [make_contest(f"p{day}", f"2024-0{day}-01", "[]") for day in range(1, 6)]
    data = str(write_rows(tmp_path / "contests.jsonl", *rows))

    task = read_task(
        "contests", TaskSettings(profile="livecodebench-v1", data=data, since="2024-02-01", until="2024-04-01")
    )

    assert [problem.id for problem in task.problems] == ["p2", "p3", "p4"]
    assert task.title == "contests (in LiveCodeBench's form, 3 problems), since 2024-02-01 until 2024-04-01"
    assert task.deviations == {"dates": "since 2024-02-01 until 2024-04-01"}
    with pytest.raises(SettingsError, match=r"no problem since 2025-01-01; its dates are 2024-01-01 to 2024-05-01"):
        read_task("contests", TaskSettings(profile="livecodebench-v1", data=data, since="2025-01-01"))
    with pytest.raises(SettingsError, match="no date of Nano/0"):
        read_task(
            "f", TaskSettings(profile="humaneval-greedy-v1", data=str(SMALL / "humaneval.jsonl"), until="2025-01-01")
        )
