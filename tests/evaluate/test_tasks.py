"""Benchmarks as the settings change them."""

import json
from collections.abc import Sequence
from pathlib import Path

from codeshell_hf.evaluate.generation import Completion, OnDone, Question
from codeshell_hf.evaluate.models import EvaluatedModel
from codeshell_hf.evaluate.results import ResultCache
from codeshell_hf.evaluate.settings import TaskSettings
from codeshell_hf.evaluate.tasks import make_task, read_task, score_task
from tests.evaluate.sets import SMALL


def test_what_the_settings_change_is_a_deviation_and_what_they_repeat_is_none() -> None:
    data = str(SMALL / "multipl-e")
    settings = TaskSettings(profile="multipl-e-greedy-v1", data=data, samples=1, max_new_tokens=8, max_problems=2)

    task = read_task("t", settings)

    assert task.deviations == {"max_new_tokens": 8, "problems": "the first 2 of each language"}
    assert task.profile.max_new_tokens == 8
    assert len(task.problems) == 2 * 11


def test_another_data_set_or_limit_is_another_task() -> None:
    lines = read_task("t", TaskSettings(profile="infilling-santacoder-v1", data=str(SMALL / "infilling.jsonl")))
    made = [
        make_task("i", "held-out-lines-v1", problems, "d", max_prompt_tokens=limit)
        for problems, limit in ((lines.problems, 64), (lines.problems, 32), (lines.problems[:3], 64))
    ]

    assert len({task.data_hash for task in made}) == 3
    assert made[1].profile.make_prompt(made[1].problems[0], ()).max_tokens == 32


class Repeating:
    """Answers each question with a text by the problem's key."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def generate(self, questions: Sequence[Question], on_done: OnDone) -> None:
        for question in questions:
            on_done(question, [Completion(self.answers[question.id], 1, "stop")])


def test_a_score_of_one_window_is_not_that_of_another_with_as_many_problems(tmp_path: Path) -> None:
    rows = [
        {
            "repo_name": "r", "file_path": "a.py", "context": [], "import_statement": "", "cropped_code": "",
            "next_line": "x = 1", "created_at": f"2024-0{month}-01",
        }
        for month in (1, 2)
    ]  # fmt: skip
    data = tmp_path / "in_file.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    model = EvaluatedModel("m", generator=Repeating({"python/in_file/0": "x = 1", "python/in_file/1": "y = 2"}))
    cache = ResultCache(tmp_path / "kept", "code")

    found = []
    for since, until in ((None, "2024-01-31"), ("2024-02-01", None)):
        settings = TaskSettings(profile="repobench-v1", data=str(data), since=since, until=until)
        score = score_task(model, read_task("lines", settings), cache, seed=0)
        assert score is not None
        found.append(score.measures["exact match"].value)

    assert found == [1.0, 0.0]
