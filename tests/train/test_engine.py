"""The engine of one process, against losses, gradients and updates computed by hand."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint.staging import StagingOptions

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CheckpointError
from codeshell_hf.train import engine as engine_module
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine, renew_stager
from codeshell_hf.train.settings import ComputeSettings, OptimizerSettings
from recipes.with_accelerate import join_ranks
from tests.train.steps import step_by_hand

MakeConfig = Callable[..., CodeShellConfig]
CPU = torch.device("cpu")
# Labels of the first row begin late: its micro-batch has fewer than that of the second row.
IDS = torch.randint(1, 320, (2, 16), generator=torch.Generator().manual_seed(1))
LABELS = torch.where(torch.arange(16) < torch.tensor([[10], [0]]), -100, IDS)
COUNT = 6 + 15


def differentiate_by_hand(model: CodeShellForCausalLM) -> dict[str, Tensor]:
    """Gradients of the mean over all labels, each token's loss by itself."""
    logits = model(input_ids=IDS).logits
    losses = []
    for row, place in ((row, place) for row in range(2) for place in range(15) if LABELS[row, place + 1] >= 0):
        scores = logits[row, place]
        losses.append(torch.log(torch.exp(scores).sum()) - scores[LABELS[row, place + 1]])
    assert len(losses) == COUNT
    torch.stack(losses).mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def accumulate(engine: Engine) -> None:
    """A micro-batch a row."""
    for row in range(2):
        with engine.autocast():
            loss = engine.module(input_ids=IDS[[row]], labels=LABELS[[row]]) / COUNT
        engine.backward(loss, is_last=row == 1)


@pytest.mark.parametrize("recomputes", [False, True])
def test_micro_batches_add_up_to_the_gradient_of_the_mean_over_all_labels(
    make_config: MakeConfig, *, recomputes: bool
) -> None:
    with join_ranks():
        options = EngineOptions(compute=ComputeSettings(gradient_checkpointing=recomputes))
        engine = make_engine(make_config(), OptimizerSettings(learning_rate=1e-2), options, device=CPU, seed=3)
        expected = differentiate_by_hand(copy.deepcopy(engine.model))

        accumulate(engine)

        for name, parameter in engine.model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-4)


def test_a_step_clips_decays_matrices_and_follows_adam(make_config: MakeConfig) -> None:
    """Adam's first step forgets the size of gradients, unless epsilon is as large as they are."""
    settings = OptimizerSettings(learning_rate=1e-2, max_gradient_norm=0.05, epsilon=0.01)
    seen: list[float] = []

    def allow(found: float) -> bool:
        seen.append(found)
        return True

    with join_ranks():
        engine = make_engine(make_config(), settings, EngineOptions(), device=CPU, seed=3)
        before = {name: parameter.detach().clone() for name, parameter in engine.model.named_parameters()}
        accumulate(engine)
        gradients = {name: parameter.grad.clone() for name, parameter in engine.model.named_parameters()}
        norm, is_taken = engine.step(0.5, allow)

    expected_norm = math.sqrt(sum(float((one.double() ** 2).sum()) for one in gradients.values()))
    assert expected_norm > 0.1
    assert is_taken
    assert norm == pytest.approx(expected_norm, rel=1e-5)
    assert seen == [norm]
    assert engine.learning_rate == pytest.approx(0.5e-2)
    clipped = {name: gradient * 0.05 / expected_norm for name, gradient in gradients.items()}
    after = step_by_hand(before, clipped, learning_rate=0.5e-2, epsilon=0.01)
    for name, parameter in engine.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), after[name], atol=1e-7, rtol=1e-4)
        assert parameter.grad is None


def test_a_step_that_is_not_allowed_changes_nothing_and_clears_the_gradients(engine: Engine) -> None:
    before = [parameter.detach().clone() for parameter in engine.model.parameters()]
    accumulate(engine)

    norm, is_taken = engine.step(1.0, lambda norm: False)

    assert norm > 0
    assert not is_taken
    assert all(torch.equal(old, new) for old, new in zip(before, engine.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in engine.model.parameters())


def test_a_checkpoint_of_another_model_is_refused(engine: Engine, make_config: MakeConfig, tmp_path: Path) -> None:
    group = dist.group.WORLD
    engine.write(tmp_path, group)()
    wider = make_engine(
        make_config(n_embd=64), OptimizerSettings(learning_rate=1e-2), EngineOptions(), device=CPU, seed=0
    )

    with pytest.raises(CheckpointError, match="is of another model or release; remove it to start over"):
        wider.read(tmp_path, group)


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_saved_model_is_what_transformers_loads(
    make_config: MakeConfig, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path, *, is_tied: bool
) -> None:
    config = make_config(tie_word_embeddings=is_tied)
    with join_ranks():
        engine = make_engine(config, OptimizerSettings(learning_rate=1e-2), EngineOptions(), device=CPU, seed=3)
        engine.save_whole(tmp_path, tiny_tokenizer)

        again = CodeShellForCausalLM.from_pretrained(tmp_path)
        with torch.no_grad():
            assert torch.equal(again(IDS).logits, engine.model.eval()(IDS).logits)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) != is_tied
    assert CodeShellTokenizer.from_pretrained(tmp_path).get_vocab() == tiny_tokenizer.get_vocab()


def test_a_run_starts_from_the_weights_that_are_named(
    tiny_model: Callable[..., CodeShellForCausalLM], make_config: MakeConfig, tmp_path: Path
) -> None:
    start = tiny_model(seed=5)
    start.save_pretrained(tmp_path)

    with join_ranks():
        options, adamw = EngineOptions(), OptimizerSettings(learning_rate=1e-2)
        engine = make_engine(make_config(), adamw, options, device=CPU, seed=0, start_from=str(tmp_path))

        with torch.no_grad():
            assert torch.equal(engine.model.eval()(IDS).logits, start(IDS).logits)
            assert next(engine.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("is_once", [True, False])
def test_each_checkpoint_is_copied(monkeypatch: pytest.MonkeyPatch, *, is_once: bool) -> None:
    """With torch before 2.13 a stager fails at its second copy, as a closed one does."""
    monkeypatch.setattr(engine_module, "_USES_STAGERS_ONCE", is_once)
    plain = StagingOptions(use_pinned_memory=False, use_shared_memory=False, use_non_blocking_copy=False)
    weight, stager = torch.zeros(3), None
    for number in range(3):
        weight.fill_(number)
        before, stager = stager, renew_stager(stager, plain)
        assert before is None or (stager is before) != is_once
        copied = stager.stage({"weight": weight, "step": [number]})
        found = copied if isinstance(copied, dict) else copied.result()
        assert found["weight"].tolist() == [number] * 3
        assert found["step"] == [number]
        if is_once:
            stager._state_dict_stager.close()  # as torch 2.11 does by itself
    assert stager is not None
    stager.close()
