"""The loss by position in a row, which shows how much of the context a model uses."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

POSITION_BINS = 16
MIN_ROWS = 2
MAX_ROWS = 64


@torch.no_grad()
def score_positions(
    model: nn.Module, documents: Sequence[NDArray[np.integer]], *, row_tokens: int
) -> list[float] | None:
    """Measures the loss of predicting each next token by its position, in documents that fill a row.

    Args:
        model: Gives `logits` of shape (1, T, V).
        documents: Ids of each, shape (T,).
        row_tokens: Longest input; shorter documents are left out.

    Returns:
        Mean loss in nats of each of 16 equal parts of the row, or `None` where fewer than two documents fill one.

    Source:
        The report, section 2.3.2, whose second length is there for what lies further back than the first.
    """
    rows = [ids[:row_tokens] for ids in documents if len(ids) >= row_tokens][:MAX_ROWS]
    if len(rows) < MIN_ROWS:
        return None
    device = next(model.parameters()).device
    total = torch.zeros(row_tokens - 1, device=device)
    for row in rows:
        inputs = torch.from_numpy(row.astype(np.int64))[None].to(device)
        logits = model(input_ids=inputs, use_cache=False).logits[:, :-1].float()
        total += nn.functional.cross_entropy(logits[0], inputs[0, 1:], reduction="none")
    return [round(float(part.mean()), 4) for part in (total / len(rows)).tensor_split(POSITION_BINS)]
