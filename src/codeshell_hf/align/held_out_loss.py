"""The held-out loss of fine-tuning per token; a trainer's own is a mean of means over batches of unequal size."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from ..text.chat import NO_LOSS, pad_rows
from ..text.intervals import Change, measure_change
from .shared_work import compute_in_batches


class LabelledRows(Protocol):
    """Rows with `input_ids` and `labels`, which is -100 where there is no loss."""

    def __len__(self) -> int:
        """Their number."""

    def __getitem__(self, index: int, /) -> Mapping[str, Sequence[int]]:
        """One of them."""


def compute_token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each position in nats, 0 where the next token has none; the logits, which are large, are not copied.

    Args:
        logits: Shape (B, T, V), contiguous.
        labels: Shape (B, T), -100 for tokens without a loss.

    Returns:
        Shape (B, T), float32.
    """
    targets = pad(labels[:, 1:], (0, 1), value=NO_LOSS)
    return cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(labels)


def sum_row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Sums the losses of each row, so that batches of any size can be averaged later.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T), -100 for tokens without a loss.

    Returns:
        Shape (B, 2), float64: the sum of a row's losses in nats, and the number of tokens in it.
    """
    losses = compute_token_losses(logits, labels)
    return torch.stack([losses.sum(1).double(), (labels[:, 1:] != NO_LOSS).sum(1).double()], dim=1)


def compute_row_losses(
    model: PreTrainedModel, rows: LabelledRows, *, batch_size: int, pad_id: int
) -> list[tuple[float, float]]:
    """The sum of each row's losses in nats and the number of its tokens; the ranks share the rows, and all get all."""

    def compute(places: Sequence[int]) -> list[tuple[float, float]]:
        batch = [rows[place] for place in places]
        ids, mask = pad_rows([row["input_ids"] for row in batch], pad_id, side="right")
        labels, _ = pad_rows([row["labels"] for row in batch], NO_LOSS, side="right")
        logits = model(ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
        return [(total, count) for total, count in sum_row_losses(logits, labels.to(logits.device)).tolist()]

    return compute_in_batches(model, len(rows), batch_size, compute)


class HeldOutLoss:
    """Measures the loss on held-out rows before and after training.

    The rows' losses before the first step are saved in `path`, so that a resumed run still has them.

    Args:
        writes: Whether this rank saves.
    """

    def __init__(self, rows: LabelledRows, path: Path, *, writes: bool) -> None:
        self.rows = rows
        self.path = path
        self.writes = writes
        self.before: list[tuple[float, float]] = []
        self.after: list[tuple[float, float]] = []

    def take_first(self, model: PreTrainedModel, *, batch_size: int, pad_id: int) -> None:
        """Measures the model before training, or reads that measurement."""
        if self.path.exists():
            self.before = [(total, count) for total, count in json.loads(self.path.read_text(encoding="utf-8"))]
            return
        self.before = compute_row_losses(model, self.rows, batch_size=batch_size, pad_id=pad_id)
        if self.writes:
            self.path.write_text(json.dumps(self.before), encoding="utf-8")

    def take_last(self, model: PreTrainedModel, *, batch_size: int, pad_id: int) -> None:
        """Measures the model after training."""
        self.after = compute_row_losses(model, self.rows, batch_size=batch_size, pad_id=pad_id)

    def measure_change(self, seed: int) -> Change | None:
        """The change of the rows' means; `None` for a single row."""
        means = [[total / count for total, count in rows if count] for rows in (self.before, self.after)]
        return measure_change(means[0], means[1], seed=seed) if len(means[0]) > 1 else None


def average(rows: Sequence[tuple[float, float]]) -> float:
    """The mean loss per token of rows, each a sum and a number of tokens.

    >>> average([(8.0, 8.0), (6.0, 2.0), (0.0, 0.0)])
    1.4
    """
    return sum(total for total, _ in rows) / sum(count for _, count in rows)
