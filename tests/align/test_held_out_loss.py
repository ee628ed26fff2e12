"""The held-out loss: a mean over tokens, whatever the batches."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from codeshell_hf.align.held_out_loss import HeldOutLoss, sum_row_losses


def test_a_rows_sum_is_that_of_its_labelled_tokens_naively() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, generator=generator)
    labels = torch.tensor([[-100, 3, 1, -100], [2, -100, 4, 0]])
    expected = []
    for row in range(2):
        losses = []
        for place in range(1, 4):  # the token at a place is predicted one before it
            if labels[row, place] >= 0:
                odds = logits[row, place - 1].double().exp()
                losses.append(-math.log(odds[labels[row, place]] / odds.sum()))
        expected.append([sum(losses), len(losses)])

    sums = sum_row_losses((logits, torch.empty(0)), labels)

    assert sums.dtype == torch.float64
    assert torch.allclose(sums, torch.tensor(expected, dtype=torch.float64), atol=1e-5)


def test_the_mean_is_over_tokens_and_rows_of_no_tokens_do_not_count(tmp_path: Path) -> None:
    measure = HeldOutLoss(tmp_path / "before.json", writes=True)

    given = measure(EvalPrediction(np.array([[8.0, 8.0], [6.0, 2.0], [0.0, 0.0]]), np.array([])))

    assert given == {"token_loss": 1.4}
    assert measure.rows == [1.0, 3.0]
    assert json.loads((tmp_path / "before.json").read_text()) == [1.0, 3.0]


def test_the_change_is_from_the_first_measurement_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    HeldOutLoss(path, writes=True)(EvalPrediction(np.array([[4.0, 1.0], [6.0, 2.0]]), np.array([])))
    resumed = HeldOutLoss(path, writes=True)
    resumed(EvalPrediction(np.array([[3.0, 1.0], [2.0, 2.0]]), np.array([])))

    change = resumed.measure_change(0)

    assert change is not None
    assert (change.before, change.after, change.prompts) == (3.5, 2.0, 2)
    assert change.low == pytest.approx(-2.0)
    assert change.high == pytest.approx(-1.0)
    resumed(EvalPrediction(np.array([[3.0, 1.0]]), np.array([])))
    assert resumed.measure_change(0) is None, "rows that were grouped otherwise are not compared"


def test_other_ranks_do_not_write(tmp_path: Path) -> None:
    HeldOutLoss(tmp_path / "before.json", writes=False)(EvalPrediction(np.array([[4.0, 1.0]]), np.array([])))

    assert not (tmp_path / "before.json").exists()
