"""The alarm for reward hacking, and the lines on changes of rewards."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.align.reward_hacking import describe_changes, find_hacked_judges, find_harm, summarize_changes
from codeshell_hf.align.reward_measurement import RewardMeasurement, compare_rewards
from codeshell_hf.text.intervals import Change


def make_columns(shifts: dict[str, float]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """64 prompts, before and after a known shift with a little noise."""
    rng = np.random.default_rng(0)
    before = {name: rng.normal(0.5, 0.1, 64).tolist() for name in shifts}
    noise = {name: rng.normal(shift, 0.1, 64).tolist() for name, shift in shifts.items()}
    return before, {
        name: [old + change for old, change in zip(before[name], noise[name], strict=True)] for name in shifts
    }


@pytest.mark.parametrize(
    ("shifts", "hacked"),
    [
        ({"model": 0.3, "tests": -0.3, "weighted": 0.3}, ["tests"]),
        ({"model": 0.3, "tests": -0.3, "format": -0.2, "weighted": 0.3}, ["format", "tests"]),
        ({"model": 0.3, "tests": 0.3, "weighted": 0.3}, []),  # all rise
        ({"model": -0.3, "tests": -0.3, "weighted": -0.3}, []),  # all fall: a bad run, but nothing is hacked
        ({"model": 0.3, "tests": 0.003, "weighted": 0.484}, ["tests"]),  # no gain that can be told from none
        ({"model": 0.3, "tests": 0.3, "format": 0.0, "weighted": 0.3}, ["format"]),
        ({"tests": -0.3}, []),  # nothing was trained
    ],
)
def test_reward_hacking_is_a_trained_reward_that_rises_while_a_judge_does_not(
    shifts: dict[str, float], hacked: list[str]
) -> None:
    changes = compare_rewards(*make_columns(shifts), seed=0)
    judges = {name: 1.0 for name in shifts if name in ("tests", "format")}

    assert find_hacked_judges(changes, judges) == hacked
    alarm = [line for line in describe_changes(changes, judges) if line.startswith("reward hacking: ")]
    assert len(alarm) == bool(hacked)
    if hacked:
        fates = [f"{name} {'fell' if shifts[name] < -0.1 else 'did not rise'}" for name in hacked]
        assert f"the trained reward rose while {', '.join(fates)};" in alarm[0]


@pytest.mark.parametrize(
    ("before", "after", "best", "hacked"),
    [(0.97, 0.97, 1.0, []), (0.97, 0.5, 1.0, ["format"]), (0.9, 0.9, 1.0, ["format"]), (0.97, 0.97, 2.0, ["format"])],
)
def test_a_judge_at_its_best_raises_no_alarm_unless_it_falls(
    before: float, after: float, best: float, hacked: list[str]
) -> None:
    changes = {
        "weighted": Change(0.1, 0.5, 0.3, 0.5, 64),
        "format": Change(before, after, after - before - 0.01, after - before + 0.01, 64),
    }

    assert find_hacked_judges(changes, {"format": best}) == hacked


def test_answers_that_no_longer_end_are_harm_without_any_trained_reward() -> None:
    changes = {
        "tests": Change(0.30, 0.29, -0.04, 0.02, 96),  # may not have fallen
        "finished": Change(0.99, 0.73, -0.31, -0.21, 96),
    }

    assert find_harm(changes, ["tests"]) == ["finished"]
    assert any(
        line.startswith("harm: finished fell by 0.260; train less") for line in describe_changes(changes, {"tests": 1})
    )


def test_a_run_without_a_judge_is_told_so() -> None:
    changes = {"weighted": Change(0.1, 0.5, 0.3, 0.5, 64)}

    assert any(line.startswith("no judge: ") for line in describe_changes(changes, {}))


def test_a_change_says_what_its_reward_is_for() -> None:
    changes = compare_rewards(*make_columns({"tests": 0.5, "weighted": 0.5, "tokens": 0.0}), seed=0)

    lines = describe_changes(changes, {"tests": 1.0})

    assert [line.partition(": ")[0] for line in lines] == ["held-out judge tests", "trained reward weighted", "tokens"]
    assert "over 64 prompts" in lines[0]


def test_the_summary_names_hacking_only_where_a_sum_was_trained(tmp_path: Path) -> None:
    measurement = RewardMeasurement(None, tmp_path / "measured.json", seed=0)
    assert summarize_changes(measurement, {"tests": 1.0}) == ({}, [])

    flat, risen = [0.0] * 20, [1.0] * 20
    measurement.taken = [{"tests": flat, "weighted": flat}, {"tests": flat, "weighted": risen}]
    measures, lines = summarize_changes(measurement, {"tests": 1.0})
    assert measures["reward_hacking"] == ["tests"]
    assert measures["measured"] == {name: asdict(change) for name, change in measurement.compare().items()}
    assert any(line.startswith("reward hacking: ") for line in lines)

    measurement.taken = [{"tests": risen}, {"tests": flat}]
    measures, _ = summarize_changes(measurement, {"tests": 1.0})
    assert measures["harm"] == ["tests"]
    assert "reward_hacking" not in measures
