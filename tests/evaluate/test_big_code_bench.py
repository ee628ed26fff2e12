"""BigCodeBench: programs see packages that a task names, and tests run in the program's module."""

import sysconfig
from contextlib import ExitStack
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.evaluate.generation import Completion
from codeshell_hf.evaluate.problems import read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.evaluate.settings import TaskSettings
from codeshell_hf.evaluate.tasks import check_tasks, read_task, score_answers
from codeshell_hf.sandbox import Program, open_sandbox
from tests.evaluate.sets import SMALL

DATA = str(SMALL / "bigcodebench.jsonl")
PACKAGES = Path(sysconfig.get_paths()["purelib"])


@pytest.mark.parametrize("profile", ["bigcodebench-complete-v1", "bigcodebench-instruct-v1"])
def test_right_answers_pass_with_packages_and_others_fail(profile: str) -> None:
    task = read_task("bench", TaskSettings(profile=profile, data=DATA, packages=PACKAGES))
    with ExitStack() as stack:
        checked = check_tasks([task], lambda shown: stack.enter_context(open_sandbox(shown=shown, workers=1)))[0]
        wrong = "    return np.array(rows).sum(axis=0)\n"
        scores = []
        for make in (
            lambda problem: problem.notes["answer"],
            lambda problem: "",
            lambda problem: wrong if profile.startswith("bigcodebench-complete") else f"```python\n{wrong}```",
        ):
            answers = {problem.key: [Completion(make(problem), 1, "stop")] for problem in task.problems}
            scores.append(score_answers(checked, answers))

    assert [score.measures["pass@1"].value for score in scores] == [1.0, 0.0, 0.0]
    assert scores[0].counts["tests run apart"] == 0  # as the page says


def test_packages_are_named_and_only_its_own_programs_see_them() -> None:
    with pytest.raises(SettingsError, match=r"tasks\.bench runs programs that import packages"):
        read_task("bench", TaskSettings(profile="bigcodebench-complete-v1", data=DATA))
    with open_sandbox(shown=[str(PACKAGES)], workers=1) as sandbox:
        verdicts = sandbox.run([
            Program("import numpy", packages=str(PACKAGES), limits=None, strict=False),
            Program("import numpy", strict=False),
        ])  # fmt: skip
    assert [verdict.reason for verdict in verdicts][1] == "ModuleNotFoundError"


def test_prompts_are_those_of_the_harness() -> None:
    complete, instruct = (PROFILES[f"bigcodebench-{name}-v1"] for name in ("complete", "instruct"))
    problem = read_problems(Path(DATA), complete.read)[0]

    assert complete.make_prompt(problem, ()).text == problem.prompt
    asked = instruct.make_prompt(problem, ())
    assert asked.is_chat
    assert asked.text.startswith("Please provide a self-contained Python script")
    assert asked.text.endswith("def task_func(rows):\n```\n")
