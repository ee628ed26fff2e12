"""95 % confidence intervals of proportions, ratios and means, and of paired changes, with their exact test."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Z = 1.959963984540054  # of a normal distribution
RESAMPLES = 10_000
_STEPS = 1_000  # of a share, for the paired test
_RESAMPLED_TOGETHER = 1 << 22  # indices at a time


@dataclass(frozen=True)
class Change:
    """A mean over the same prompts before and after; `low` and `high` bound the difference."""

    before: float
    after: float
    low: float
    high: float
    prompts: int

    def __str__(self) -> str:
        sign = f"{self.after - self.before:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.before:.3f} -> {self.after:.3f} ({sign} over {self.prompts} prompts)"


def share_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion, which is informative even without successes.

    Source:
        Wilson 1927, Probable inference, the law of succession, and statistical inference.

    >>> [round(end, 3) for end in share_interval(0, 114)]
    [0.0, 0.033]
    """
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + Z * Z / (2 * trials)
    reach = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    scale = 1 + Z * Z / trials
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def bootstrap_interval(
    count: int,
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The bootstrap interval of a statistic of `count` problems or documents.

    Args:
        statistic: Computes it for several resamples at once, from the drawn indices, shape (resamples, count).

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (the percentile interval).
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _RESAMPLED_TOGETHER // count)
    values = [
        statistic(rng.integers(count, size=(min(rows, resamples - first), count)))
        for first in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(values), [0.025, 0.975])
    return float(low), float(high)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The bootstrap interval of a ratio of sums, such as bits over bytes, resampled over documents.

    For a single document, both ends are its ratio.
    """
    above, below = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)

    def divide_sums(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        ratios: NDArray[np.float64] = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
        return ratios

    return bootstrap_interval(len(above), divide_sums, seed=seed, resamples=resamples)


def mean_interval(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The bootstrap interval of a mean over problems; Wilson's interval if all are 0 or all are 1."""
    if len(set(values)) == 1 and values[0] in (0, 1):
        return share_interval(round(sum(values)), len(values))
    return ratio_interval(values, [1.0] * len(values), seed=seed, resamples=resamples)


def change_interval(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The paired bootstrap interval of a mean's change; `before` and `after` are of the same problems, in order."""
    changes = [new - old for old, new in zip(before, after, strict=True)]
    return ratio_interval(changes, [1.0] * len(changes), seed=seed, resamples=resamples)


def paired_probability(before: Sequence[float], after: Sequence[float]) -> float:
    """The probability that chance alone changes shares of right answers as much, if each change could be its opposite.

    The exact, two-sided sign-flip test of paired data; for single answers it is McNemar's exact test. `before` and
    `after` are shares of the same problems, in order.

    Source:
        McNemar 1947, Psychometrika 12; Fisher 1935, The Design of Experiments, section 21.

    >>> paired_probability([0, 0, 0, 0, 1], [1, 1, 1, 1, 1])
    0.125
    """
    fractions = [
        Fraction(float(new) - float(old)).limit_denominator(10_000) for old, new in zip(before, after, strict=True)
    ]
    fractions = [fraction for fraction in fractions if fraction]
    scale = math.lcm(*(fraction.denominator for fraction in fractions)) if fractions else 1
    # Shares of different numbers of samples have denominators without a usable common multiple.
    steps = [round(fraction * min(scale, _STEPS)) for fraction in fractions]
    total = sum(map(abs, steps))
    likely = np.zeros(2 * total + 1)
    likely[total] = 1.0
    for step in map(abs, steps):
        likely = (np.roll(likely, step) + np.roll(likely, -step)) / 2
    sums = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(likely[sums >= abs(sum(steps))].sum()))


def correct_for_number(probabilities: Sequence[float]) -> list[float]:
    """Corrects the probabilities of several comparisons, so that the chance of any false one stays bounded.

    Source:
        Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.

    >>> correct_for_number([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    corrected = [1.0] * len(probabilities)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(probabilities)), key=probabilities.__getitem__)):
        highest = max(highest, min(1.0, (len(probabilities) - rank) * probabilities[place]))
        corrected[place] = highest
    return corrected


def measure_change(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Change:
    """Measures a change of means, such as the reward of the same prompts before and after training.

    Raises:
        DataError: If there are fewer than two prompts, or not as many before as after.

    >>> measure_change([0.0, 0.5, 0.0, 0.5], [0.5, 1.0, 0.5, 1.0]).low
    0.5
    """
    if len(before) != len(after) or len(before) < 2:
        raise DataError(f"{len(before)} and {len(after)} prompts cannot be compared; measure the same two or more")
    low, high = change_interval(before, after, seed=seed, resamples=resamples)
    return Change(float(np.mean(before)), float(np.mean(after)), low, high, len(before))
