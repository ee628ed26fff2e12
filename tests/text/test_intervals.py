"""Intervals contain the true value as often as they claim."""

import numpy as np
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.intervals import (
    change_interval,
    mean_interval,
    measure_change,
    ratio_interval,
    share_interval,
)


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say(share: float) -> None:
    drawn = np.random.default_rng(0).binomial(114, share, size=2000)

    held = [low <= share <= high for low, high in (share_interval(int(count), 114) for count in drawn)]

    assert 0.93 < np.mean(held) < 0.985
    assert share_interval(0, 0) == (0.0, 1.0)
    assert share_interval(5, 5)[1] == 1.0


def test_intervals_of_ratios_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = []
    for seed in range(300):
        sizes = generator.integers(100, 2000, size=60)
        bits = sizes * generator.normal(2.0, 0.4, size=60)
        low, high = ratio_interval(bits.tolist(), sizes.tolist(), seed=seed, resamples=400)
        held.append(low <= 2.0 <= high)

    assert 0.9 < np.mean(held) < 0.98
    assert ratio_interval([4.0], [2.0]) == (2.0, 2.0)


def test_intervals_of_means_hold_the_truth_and_say_something_of_nothing() -> None:
    generator = np.random.default_rng(0)
    held = []
    for seed in range(300):
        low, high = mean_interval(generator.beta(2, 3, size=80).tolist(), seed=seed, resamples=400)
        held.append(low <= 0.4 <= high)

    assert 0.9 < np.mean(held) < 0.98
    assert mean_interval([0.0] * 114) == share_interval(0, 114)


def test_a_change_on_the_same_problems_is_told_sooner_than_two_means() -> None:
    before = np.random.default_rng(0).random(60).tolist()
    after = [value + 0.05 for value in before]

    low, high = change_interval(before, after)

    assert low == pytest.approx(0.05)
    assert high == pytest.approx(0.05)
    first, second = mean_interval(before), mean_interval(after)
    assert first[1] > second[0]


def test_intervals_of_changes_hold_the_truth_as_often_as_they_say() -> None:
    """200 experiments of 64 prompts: 95 % intervals miss a true change of 0.1 between 2 and 22 times.

    A percentile bootstrap of 64 values covers about 94 %; the odds of a false alarm are below 1 in 1,000.
    """
    rng = np.random.default_rng(5)
    missed = 0
    for experiment in range(200):
        before = rng.normal(0.3, 0.2, size=64)
        after = before + rng.normal(0.1, 0.3, size=64)
        change = measure_change(before.tolist(), after.tolist(), seed=experiment, resamples=1000)
        missed += not change.low <= 0.1 <= change.high

    assert 2 <= missed <= 26


def test_only_the_same_prompts_are_compared() -> None:
    with pytest.raises(DataError, match="2 and 1 prompts cannot be compared"):
        measure_change([1.0, 2.0], [1.0])
