"""Whether a change is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError


@dataclass(frozen=True)
class Change:
    """A mean before and after, over the same prompts.

    Args:
        before: The mean.
        after: The mean.
        low: Lower end of the 95 % interval of the difference.
        high: Its upper end.
        prompts: How many were measured both times.
    """

    before: float
    after: float
    low: float
    high: float
    prompts: int

    def __str__(self) -> str:
        sign = f"{self.after - self.before:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.before:.3f} -> {self.after:.3f} ({sign} over {self.prompts} prompts)"


def measure_change(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0, resamples: int = 10_000
) -> Change:
    """Measures a difference of means, with prompts as the unit of chance.

    Args:
        before: One value a prompt, such as the mean reward of its answers.
        after: The same prompts in the same order.
        seed: Of the resampling.
        resamples: How many times the prompts are drawn anew.

    Returns:
        The means and the paired bootstrap interval of their difference.

    Raises:
        DataError: If there are fewer than two prompts, or not as many before as after.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (the percentile interval).

    >>> measure_change([0.0, 0.5, 0.0, 0.5], [0.5, 1.0, 0.5, 1.0]).low
    0.5
    """
    if len(before) != len(after) or len(before) < 2:
        raise DataError(f"{len(before)} and {len(after)} prompts cannot be compared; measure the same two or more")
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return Change(float(np.mean(before)), float(np.mean(after)), float(low), float(high), len(differences))
