"""AdamW and Muon: which parameters move, and which decay."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.train.optimizer import groups, make_optimizers, set_learning_rate
from codeshell_hf.train.settings import OptimizerSettings

OptimizerName = Literal["adamw", "muon"]


def make_settings(name: OptimizerName) -> OptimizerSettings:
    return OptimizerSettings(name=name, learning_rate=1e-2, matrix_learning_rate=2e-2, weight_decay=0.1)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_one_group_and_moves(
    tiny_model: Callable[..., CodeShellForCausalLM], name: OptimizerName
) -> None:
    model = tiny_model().train()
    optimizers = make_optimizers(model, make_settings(name))
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    grouped = [parameter for group in groups(optimizers) for parameter in group["params"]]
    ids = torch.randint(1, 320, (2, 16))

    set_learning_rate(optimizers, 0.5)
    model(ids, labels=ids).loss.backward()
    for optimizer in optimizers:
        optimizer.step()

    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))
    for key, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[key]), key
    assert [group["lr"] for group in groups(optimizers)] == [0.5 * group["peak"] for group in groups(optimizers)]


def test_norms_and_biases_do_not_decay_and_muon_takes_the_blocks_alone(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    model = tiny_model()
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    adamw, muon = make_optimizers(model, make_settings("muon"))

    free = [names[id(p)] for group in groups([adamw]) if not group["weight_decay"] for p in group["params"]]
    matrices = [names[id(p)] for p in groups([muon])[0]["params"]]

    assert all(key.endswith("bias") or ".ln_" in key for key in free)
    assert len(free) == 2 * (4 + 4) + 2
    assert len(matrices) == 2 * 4
    assert all(".h." in key and key.endswith("weight") for key in matrices)


def test_weights_without_gradients_shrink_by_rate_times_decay_and_norms_stay(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    model = tiny_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    for optimizer in make_optimizers(model, make_settings("muon"), "float32"):
        optimizer.step()

    for name, parameter in model.named_parameters():
        rate = 2e-2 if ".h." in name else 1e-2
        factor = 1 - rate * 0.1 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)
