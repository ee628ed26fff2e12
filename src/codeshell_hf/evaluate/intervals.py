"""How far a measured figure could lie from the true one."""

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054  # 95 % of a normal distribution


def interval_of_share(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, which says something even where nothing succeeded.

    Args:
        successes: How many did.
        trials: Of how many.

    Returns:
        Its ends, 0 to 1.

    Source:
        Wilson 1927, Probable inference, the law of succession, and statistical inference.

    >>> [round(end, 3) for end in interval_of_share(0, 114)]
    [0.0, 0.033]
    """
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + Z * Z / (2 * trials)
    reach = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    scale = 1 + Z * Z / trials
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def interval_of_ratio(
    parts: Sequence[float], wholes: Sequence[float], *, seed: int = 0, resamples: int = 2_000
) -> tuple[float, float]:
    """The 95 % interval of a ratio of sums, such as bits per byte, with documents as the unit of chance.

    Args:
        parts: Such as the bits of each document.
        wholes: Such as its bytes.
        seed: Of the resampling.
        resamples: How many times the documents are drawn anew.

    Returns:
        Its ends; of a single document, twice its ratio.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (the percentile interval).
    """
    above, below = np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(above), size=(resamples, len(above)))
    ratios = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def interval_of_mean(values: Sequence[float], *, seed: int = 0, resamples: int = 2_000) -> tuple[float, float]:
    """The 95 % interval of a mean, with problems as the unit of chance.

    Args:
        values: One of each problem.
        seed: Of the resampling.
        resamples: How many times the problems are drawn anew.

    Returns:
        Its ends. Where all values are 0 or all are 1, Wilson's interval of a share, which still says something.
    """
    if len(set(values)) == 1 and values[0] in (0, 1):
        return interval_of_share(round(sum(values)), len(values))
    return interval_of_ratio(values, [1.0] * len(values), seed=seed, resamples=resamples)


def interval_of_change(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0, resamples: int = 2_000
) -> tuple[float, float]:
    """The 95 % interval of how much a mean changed on the same problems.

    Args:
        before: One of each problem.
        after: Of the same problems, in their order.
        seed: Of the resampling.
        resamples: How many times the problems are drawn anew.

    Returns:
        Its ends; the change is told from chance where both lie on one side of 0.
    """
    changes = [new - old for old, new in zip(before, after, strict=True)]
    return interval_of_ratio(changes, [1.0] * len(changes), seed=seed, resamples=resamples)
