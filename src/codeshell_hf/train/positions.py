"""Measures the loss by position in a row, which shows how much of the context a model uses."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..text.bits_per_byte import compute_losses

POSITION_BINS = 16
MIN_ROWS = 2
MAX_ROWS = 64


@torch.no_grad()
def score_positions(
    model: nn.Module,
    documents: Sequence[NDArray[np.integer]],
    *,
    row_tokens: int,
    measure: Callable[[nn.Module, Tensor], Tensor] = compute_losses,
) -> list[float] | None:
    """The mean loss in nats for each of 16 equal parts of a row, over documents of at least `row_tokens`.

    Args:
        measure: How `model` computes losses.

    Returns:
        `None` if fewer than two documents are long enough.

    Source:
        CodeShell's report, section 2.3.2, on training with a second, longer context.
    """
    rows = [ids[:row_tokens] for ids in documents if len(ids) >= row_tokens][:MAX_ROWS]
    if len(rows) < MIN_ROWS:
        return None
    device = next(model.parameters()).device
    total = torch.zeros(row_tokens - 1, device=device)
    for row in rows:
        inputs = torch.from_numpy(row.astype(np.int64))[None].to(device)
        total += measure(model, inputs)[0]
    return [round(float(part.mean()), 4) for part in (total / len(rows)).tensor_split(POSITION_BINS)]
