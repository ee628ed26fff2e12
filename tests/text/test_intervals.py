"""Intervals contain the true value as often as they claim."""

import itertools

import numpy as np
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.intervals import (
    change_interval,
    correct_for_number,
    mean_interval,
    measure_change,
    paired_probability,
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


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (Wilson's score)
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_the_interval_of_a_share_is_that_of_the_table(
    successes: int, trials: int, expected: tuple[float, float]
) -> None:
    assert share_interval(successes, trials) == pytest.approx(expected, abs=6e-5)


def test_the_bootstrap_gives_the_quantiles_of_all_resamples_of_a_ratio_of_sums() -> None:
    bits, sizes = [4.0, 1.0, 9.0, 2.0], [1.0, 2.0, 4.0, 1.0]
    every = [
        sum(bits[index] for index in drawn) / sum(sizes[index] for index in drawn)
        for drawn in itertools.product(range(4), repeat=4)
    ]

    low, high = ratio_interval(bits, sizes)

    assert (low, high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=0.06)
    assert low < sum(bits) / sum(sizes) < high


def test_the_interval_of_a_mean_is_nearly_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400).tolist()
    reach = 1.96 * np.std(values) / 20

    low, high = mean_interval(values)

    assert (low, high) == pytest.approx((np.mean(values) - reach, np.mean(values) + reach), abs=0.012)


def test_a_change_is_after_minus_before_and_pairs_prompts() -> None:
    before = [0.0, 10.0, 20.0, 30.0]  # prompts differ far more than the change
    after = [1.0, 11.0, 21.5, 31.0]

    change = measure_change(before, after)

    assert 1.0 <= change.low < 1.125 < change.high <= 1.5
    assert (change.before, change.after, change.prompts) == (15.0, 16.125, 4)
    assert change_interval(after, before) == pytest.approx((-change.high, -change.low), abs=0.05)
    assert str(change) == f"15.000 -> 16.125 (+1.125 [{change.low:+.3f}, {change.high:+.3f}] over 4 prompts)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([0, 0, 0, 0], [1, 1, 1, 1]),
        ([0, 1, 0, 1, 0], [1, 0, 1, 1, 0]),
        ([0.25, 0.5, 1.0, 0.0, 0.75], [0.5, 0.25, 0.25, 0.75, 1.0]),
        ([1 / 3, 0.0, 2 / 3], [1.0, 1 / 3, 2 / 3]),
        ([0.5], [0.5]),
    ],
)
def test_a_paired_probability_is_that_of_all_signs(before: list[float], after: list[float]) -> None:
    changes = [new - old for old, new in zip(before, after, strict=True)]
    signs = list(itertools.product((-1, 1), repeat=len(changes)))
    as_large = [
        abs(sum(sign * change for sign, change in zip(own, changes, strict=True))) >= abs(sum(changes)) - 1e-9
        for own in signs
    ]

    assert paired_probability(before, after) == pytest.approx(sum(as_large) / len(signs))


def test_a_correction_never_orders_comparisons_anew() -> None:
    assert correct_for_number([]) == []
    assert correct_for_number([0.03, 0.02, 0.04]) == [0.06, 0.06, 0.06]  # Holm's, by hand: 3 x 0.02, then no less
    assert correct_for_number([0.6, 0.001]) == [0.6, 0.002]
