"""The loss by position, against a model whose loss at each position is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codeshell_hf.train.positions import score_positions


class Certain(nn.Module):
    """Knows the second half of a row's tokens, and finds all tokens as likely in the first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, 10)
        half = input_ids.shape[1] // 2
        logits[:, half:-1].scatter_(2, input_ids[:, half + 1 :, None], 100.0)
        return SimpleNamespace(logits=logits)


def test_each_part_of_the_row_has_its_own_loss() -> None:
    rows = [np.arange(65) % 10, np.arange(70) % 7, np.arange(20)]

    losses = score_positions(Certain(), rows, row_tokens=65)

    assert losses is not None
    assert losses[:8] == pytest.approx([math.log(10)] * 8, abs=1e-4)
    assert losses[8:] == pytest.approx([0.0] * 8, abs=1e-4)


def test_one_long_document_is_too_few() -> None:
    assert score_positions(Certain(), [np.arange(65), np.arange(20)], row_tokens=65) is None
