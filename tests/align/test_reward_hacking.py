"""The alarm for reward hacking, and the lines on changes of rewards."""

import numpy as np
import pytest

from codeshell_hf.align.reward_hacking import describe_changes, find_hacked_judges
from codeshell_hf.align.reward_measurement import compare_rewards


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
        ({"model": 0.3, "tests": 0.0, "weighted": 0.3}, []),  # the judge did not move beyond its interval
        ({"tests": -0.3}, []),  # nothing was trained
    ],
)
def test_reward_hacking_is_a_trained_reward_that_rises_while_a_judge_falls(
    shifts: dict[str, float], hacked: list[str]
) -> None:
    changes = compare_rewards(*make_columns(shifts), seed=0)
    judges = [name for name in shifts if name in ("tests", "format")]

    assert find_hacked_judges(changes, judges) == hacked
    alarm = [line for line in describe_changes(changes, judges) if line.startswith("reward hacking: ")]
    assert len(alarm) == bool(hacked)
    if hacked:
        assert f"the trained reward rose while {', '.join(hacked)} fell" in alarm[0]


def test_a_change_says_what_its_reward_is_for() -> None:
    changes = compare_rewards(*make_columns({"tests": 0.0, "weighted": 0.5, "tokens": 0.0}), seed=0)

    lines = describe_changes(changes, ["tests"])

    assert [line.partition(": ")[0] for line in lines] == ["held-out judge tests", "trained reward weighted", "tokens"]
    assert "over 64 prompts" in lines[0]
