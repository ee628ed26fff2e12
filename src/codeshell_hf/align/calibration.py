"""How often a reward model prefers the better answer, and whether it is as sure as it is right."""

import math
from collections.abc import Sequence

from torch import Tensor

# Pairs of which a model is about equally sure: `sure`, its mean probability that the answer it prefers is the better
# one; `right`, the share for which that holds; `pairs`, how many they are.
CalibrationBin = dict[str, float]


def compute_margins(scores: Tensor, batch_size: int, pairs: int) -> list[float]:
    """The chosen answer's score minus the rejected one's, for each pair, out of what TRL's reward trainer predicts.

    Args:
        scores: One a text, any shape: per batch the scores of the chosen answers, then those of the rejected ones.
        batch_size: Pairs in a batch.
        pairs: How many there are; further ones fill the last batch.
    """
    sides = scores.float().reshape(-1, 2, batch_size)
    margins = (sides[:, 0] - sides[:, 1]).flatten()[:pairs]
    return [float(margin) for margin in margins]


def measure_accuracy(margins: Sequence[float]) -> float:
    """The share of pairs whose better answer scores higher; a tie counts half.

    >>> measure_accuracy([1.0, -1.0, 2.0, 0.0])
    0.625
    """
    return sum((margin > 0) + (margin == 0) / 2 for margin in margins) / len(margins)


def calibrate(margins: Sequence[float], *, bins: int = 5) -> list[CalibrationBin]:
    """Compares how sure a reward model is, in equal bins from 0.5 to 1, with how often it is right; no empty bins.

    >>> calibrate([0.1, -0.1, 5.0])[0]["right"]
    0.5
    """
    groups: dict[int, list[tuple[float, bool]]] = {}
    for margin in margins:
        sure = 1 / (1 + math.exp(-min(abs(margin), 50.0)))
        groups.setdefault(min(bins - 1, int((sure - 0.5) * 2 * bins)), []).append((sure, margin > 0))
    return [
        {
            "sure": round(sum(sure for sure, _ in group) / len(group), 4),
            "right": round(sum(right for _, right in group) / len(group), 4),
            "pairs": len(group),
        }
        for _, group in sorted(groups.items())
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """The mean distance between `sure` and `right`, weighted by pairs, between 0 and 1.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 2.

    >>> expected_calibration_error([{"sure": 0.9, "right": 0.5, "pairs": 1}, {"sure": 0.6, "right": 0.6, "pairs": 3}])
    0.1
    """
    return sum(abs(group["sure"] - group["right"]) * group["pairs"] for group in bins) / sum(
        group["pairs"] for group in bins
    )
