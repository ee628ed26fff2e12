"""The held-out loss of fine-tuning per token; the trainer's own is a mean of means over batches of unequal size."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

from ..text.intervals import Change, measure_change


def sum_row_losses(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Sums the losses of each row, so that batches of any size can be averaged later.

    Args:
        logits: Shape (B, T, V), alone or first of several outputs.
        labels: Shape (B, T), -100 for tokens without a loss.

    Returns:
        Shape (B, 2), float64: the sum of a row's losses in nats, and the number of tokens in it.
    """
    logits = logits[0] if isinstance(logits, tuple) else logits
    targets = labels[:, 1:]
    losses = cross_entropy(logits[:, :-1].float().mT, targets, reduction="none")  # (B, T - 1)
    return torch.stack([losses.sum(1).double(), (targets != -100).sum(1).double()], dim=1)


class HeldOutLoss:
    """Averages the sums of `sum_row_losses`; a trainer's `compute_metrics`.

    The rows' losses before the first step are saved in `path`, so that a resumed run still has them.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path = path
        self.writes = writes
        self.rows: list[float] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """The mean loss per token in nats; each row's mean is stored."""
        sums = np.asarray(prediction.predictions).reshape(-1, 2)
        self.rows = [float(total / count) for total, count in sums if count]
        if self.writes and not self.path.exists():
            self.path.write_text(json.dumps(self.rows), encoding="utf-8")
        total, count = sums.sum(axis=0)
        return {"token_loss": float(total / count)}

    def measure_change(self, seed: int) -> Change | None:
        """The change since the first step; `None` for a single row, or if packing grouped rows differently."""
        before = json.loads(self.path.read_text(encoding="utf-8"))
        if len(before) != len(self.rows) or len(before) < 2:
            return None
        return measure_change(before, self.rows, seed=seed)
