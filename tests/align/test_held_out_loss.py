"""The held-out loss: a mean over tokens, whatever the batches."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.align.held_out_loss import HeldOutLoss, average, compute_row_losses, sum_row_losses


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

    sums = sum_row_losses(logits, labels)

    assert sums.dtype == torch.float64
    assert torch.allclose(sums, torch.tensor(expected, dtype=torch.float64), atol=1e-5)


ROWS = [
    {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
    {"input_ids": [5, 6, 7, 8, 9, 10], "labels": [-100, 6, -100, 8, 9, 10]},
    {"input_ids": [11, 12], "labels": [-100, 12]},
]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_rows_are_measured_as_each_by_itself_whatever_the_batch(
    tiny_model: Callable[..., CodeShellForCausalLM], batch_size: int
) -> None:
    model = tiny_model()
    expected = []
    for row in ROWS:
        with torch.no_grad():
            odds = model(torch.tensor([row["input_ids"]])).logits[0].double().log_softmax(-1)
        losses = [-float(odds[place - 1, label]) for place, label in enumerate(row["labels"]) if label >= 0]
        expected.append((sum(losses), float(len(losses))))
    model.train()

    found = compute_row_losses(model, ROWS, batch_size=batch_size, pad_id=0)

    assert [count for _, count in found] == [count for _, count in expected]
    assert [total for total, _ in found] == pytest.approx([total for total, _ in expected], abs=1e-4)
    assert model.training


def test_the_change_is_from_the_first_measurement_to_the_last_in_a_resumed_run_too(
    tiny_model: Callable[..., CodeShellForCausalLM], tmp_path: Path
) -> None:
    sizes = {"batch_size": 2, "pad_id": 0}
    first = HeldOutLoss(ROWS, tmp_path / "before.json", writes=True)
    first.take_first(tiny_model(), **sizes)
    resumed = HeldOutLoss(ROWS, tmp_path / "before.json", writes=True)
    resumed.take_first(tiny_model(seed=1), **sizes)
    resumed.take_last(tiny_model(seed=2), **sizes)

    assert resumed.before == first.before
    change = resumed.measure_change(0)
    assert change is not None
    assert change.prompts == 3
    assert change.before == pytest.approx(sum(total / count for total, count in first.before) / 3)
    assert average(resumed.after) == pytest.approx(sum(total for total, _ in resumed.after) / 7)


def test_other_ranks_do_not_write(tiny_model: Callable[..., CodeShellForCausalLM], tmp_path: Path) -> None:
    HeldOutLoss(ROWS, tmp_path / "before.json", writes=False).take_first(tiny_model(), batch_size=2, pad_id=0)

    assert not (tmp_path / "before.json").exists()
