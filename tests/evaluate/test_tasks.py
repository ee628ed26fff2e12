"""Benchmarks as the settings change them."""

from codeshell_hf.evaluate.settings import TaskSettings
from codeshell_hf.evaluate.tasks import make_task, read_task
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
