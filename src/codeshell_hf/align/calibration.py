"""A reward model's accuracy on pairs, and how well its confidence is calibrated."""

import math
from collections.abc import Sequence

from torch import Tensor

# Pairs of similar confidence: `sure` is the mean probability that the preferred answer is the better one, `right` the
# share of pairs for which it is, `pairs` their number.
CalibrationBin = dict[str, float]


def compute_margins(scores: Tensor, batch_size: int, pairs: int) -> list[float]:
    """The chosen answer's score minus the rejected one's for each pair, from the predictions of TRL's reward trainer.

    Args:
        scores: One per text: in each batch the scores of the chosen answers, then those of the rejected ones.
        batch_size: Pairs in a batch.
        pairs: Their number; what follows fills the last batch.
    """
    sides = scores.float().reshape(-1, 2, batch_size)
    margins = (sides[:, 0] - sides[:, 1]).flatten()[:pairs]
    return [float(margin) for margin in margins]


def measure_accuracy(margins: Sequence[float]) -> float:
    """The share of pairs whose better answer scores higher; a tie counts as half.

    >>> measure_accuracy([1.0, -1.0, 2.0, 0.0])
    0.625
    """
    return sum((margin > 0) + (margin == 0) / 2 for margin in margins) / len(margins)


def calibrate(margins: Sequence[float], *, bins: int = 5) -> list[CalibrationBin]:
    """Compares confidence with accuracy in equal bins from 0.5 to 1; empty bins are left out.

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
    """The mean distance between confidence and accuracy, weighted by pairs, from 0 to 1.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 2.

    >>> expected_calibration_error([{"sure": 0.9, "right": 0.5, "pairs": 1}, {"sure": 0.6, "right": 0.6, "pairs": 3}])
    0.1
    """
    return sum(abs(group["sure"] - group["right"]) * group["pairs"] for group in bins) / sum(
        group["pairs"] for group in bins
    )
