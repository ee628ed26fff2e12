"""The chunked loss, against the model's own."""

import math
from collections.abc import Callable

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.train.loss import TrainedModel


def test_the_chunked_loss_and_its_gradients_equal_the_plain_ones(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    ids = torch.randint(1, 320, (2, 24))
    labels = ids.clone()
    labels[0, 5] = labels[1, 0] = -100
    found = []
    for held in (10**9, 7):  # all logits at once, and those of seven positions
        model = TrainedModel(tiny_model().train(), held_positions=held)
        loss = model(input_ids=ids, labels=labels) / 46
        loss.backward()
        found.append((float(loss), {name: weight.grad for name, weight in model.named_parameters()}))

    expected = tiny_model().train()(input_ids=ids, labels=labels, num_items_in_batch=46).loss
    assert found[0][0] == pytest.approx(float(expected), rel=1e-6)
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-4, atol=1e-7)


def test_the_chunked_loss_is_computed_in_bfloat16_under_autocast(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    ids = torch.randint(1, 320, (2, 24))
    losses = []
    for held in (10**9, 7):
        model = TrainedModel(tiny_model().train(), held_positions=held)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids)
        loss.backward()
        losses.append(float(loss))
        assert model.model.lm_head.weight.grad.dtype == torch.float32
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("held", [10**9, 7])
def test_equal_logits_cost_the_logarithm_of_the_vocabulary_a_label(
    tiny_model: Callable[..., CodeShellForCausalLM], held: int
) -> None:
    model = TrainedModel(tiny_model(tie_word_embeddings=False), held_positions=held)
    torch.nn.init.zeros_(model.model.lm_head.weight)
    ids = torch.randint(1, 320, (2, 24))
    labels = ids.masked_fill(ids % 3 == 0, -100)

    loss = model(input_ids=ids, labels=labels)

    assert float(loss) == pytest.approx(int((labels[:, 1:] != -100).sum()) * math.log(320), rel=1e-5)
