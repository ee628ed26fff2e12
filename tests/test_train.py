"""Training: schedules, optimisers, costs, and checkpoints that can be trusted."""

import math
from pathlib import Path

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.errors import CheckpointError, SettingsError
from codeshell_hf.train.guard import Guard
from codeshell_hf.train.loss import TrainedModel
from codeshell_hf.train.optimizer import OptimizerOptions, groups, make_optimizers, set_learning_rate
from codeshell_hf.train.schedule import LearningRate, fit_batch, place_phases
from codeshell_hf.train.throughput import cost_token
from codeshell_hf.train.weights import draw_weight, load_model

OPTIONS = OptimizerOptions("adamw", (0.9, 0.95), 1e-8, 0.1, 1e-2)
GOLDEN = Path(__file__).parent / "data" / "golden" / "plain"


def test_learning_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    rate = LearningRate(3e-4, 0.1, 1000, 11000)

    assert rate.at(500) == pytest.approx(1.5e-4)
    assert rate.at(1000) == pytest.approx(3e-4)
    assert rate.at(6000) == pytest.approx((3e-4 + 3e-5) / 2)
    assert rate.at(11000) == rate.at(20000) == pytest.approx(3e-5)
    rates = [rate.at(tokens) for tokens in range(1000, 11001, 100)]
    assert rates == sorted(rates, reverse=True)
    assert LearningRate(1.0, 0.1, 0, 10).at(0) == 1.0


def test_phases_change_between_steps() -> None:
    placed = place_phases([(0.9, 2048), (1.0, 8192)], total_tokens=499_400_000_000, step_tokens=3_932_160)

    assert placed[0] == (0, 2048)
    assert placed[1][1] == 8192
    assert placed[1][0] % 3_932_160 == 0
    assert placed[1][0] == pytest.approx(0.9 * 499.4e9, rel=1e-4)


@pytest.mark.parametrize("ends", [[0.5], [1.0, 0.5], [0.5, 0.5, 1.0], []])
def test_phases_that_do_not_cover_the_run_are_refused(ends: list[float]) -> None:
    with pytest.raises(SettingsError, match="let until_fraction grow and the last be 1"):
        place_phases([(end, 8) for end in ends], total_tokens=100, step_tokens=10)


def test_batches_that_do_not_divide_are_rounded_to_what_does() -> None:
    assert fit_batch(64, micro_tokens=16, row_lengths=[8, 16], ranks=4) == 64
    assert fit_batch(2_500_000, micro_tokens=20480, row_lengths=[4096], ranks=128) == 2_621_440
    assert fit_batch(10, micro_tokens=16, row_lengths=[8], ranks=2) == 32
    with pytest.raises(SettingsError, match="set it to a multiple of 24"):
        fit_batch(64, micro_tokens=64, row_lengths=[24], ranks=1)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_one_group_and_moves(tiny_model, name: str) -> None:
    model = tiny_model().train()
    optimizers = make_optimizers(model, OptimizerOptions(name, (0.9, 0.95), 1e-8, 0.1, 1e-2, 2e-2))
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


def test_norms_and_biases_do_not_decay_and_muon_takes_the_blocks_alone(tiny_model) -> None:
    model = tiny_model()
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    adamw, muon = make_optimizers(model, OptimizerOptions("muon", (0.9, 0.95), 1e-8, 0.1, 1e-2, 2e-2))

    free = [names[id(p)] for group in groups([adamw]) if not group["weight_decay"] for p in group["params"]]
    matrices = [names[id(p)] for p in groups([muon])[0]["params"]]

    assert all(key.endswith("bias") or ".ln_" in key for key in free)
    assert len(free) == 2 * (4 + 4) + 2
    assert len(matrices) == 2 * 4
    assert all(".h." in key and key.endswith("weight") for key in matrices)


def test_cost_of_a_token_equals_a_count_by_hand(make_config) -> None:
    config = make_config(n_embd=32, n_layer=2, n_head=4, num_query_groups=2, n_inner=64, vocab_size=320)
    parameters = sum(p.numel() for p in CodeShellForCausalLM(config).parameters())

    cost = cost_token(config, 100)

    # 2 layers, 3 passes; each query sees 50 of 100 keys on average, for scores and for sums, 2 operations each.
    assert cost.causal_attention == 2 * 3 * (2 * 2 * 50 * 32)
    assert cost.matrices == 6 * parameters
    assert cost.square - cost.causal == cost.causal_attention


def test_weights_that_are_missing_broken_or_of_another_shape_are_one_clear_error(tmp_path: Path) -> None:
    model = load_model(str(GOLDEN), dtype=torch.float32)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(str(tmp_path / "none"), dtype=torch.float32)

    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="name a whole CodeShell checkpoint"):
        load_model(str(tmp_path), dtype=torch.float32)

    weights.write_bytes(whole)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"n_inner": 192', '"n_inner": 160'))
    with pytest.raises(CheckpointError, match="name a whole CodeShell checkpoint"):
        load_model(str(tmp_path), dtype=torch.float32)
    (tmp_path / "config.json").write_text(
        config.replace('"n_layer": 3', '"n_layer": 4').replace(
            '"full_attention"\n  ]', '"full_attention",\n    "full_attention"\n  ]'
        )
    )
    with pytest.raises(CheckpointError, match=r"lacks .*h\.3\."):
        load_model(str(tmp_path), dtype=torch.float32)


def test_the_chunked_loss_and_its_gradients_equal_the_plain_ones(tiny_model) -> None:
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


def test_the_chunked_loss_is_computed_in_bfloat16_under_autocast(tiny_model) -> None:
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


def test_guard_skips_spikes_and_numbers_that_are_none_and_gives_up_in_the_end() -> None:
    guard = Guard(max_ratio=5.0, max_skips=3, warmup_steps=2)

    assert guard.allows(10.0)  # nothing is usual yet
    assert guard.allows(80.0)
    assert [guard.allows(norm) for norm in (math.inf, math.nan, 1e9)] == [False] * 3
    assert guard.gives_up
    assert guard.skipped == 3
    assert guard.allows(12.0)
    assert not guard.gives_up
    other = Guard(5.0, 3, 2)
    other.restore(guard.state())
    assert other == guard
    assert Guard(None, 3, 0).allows(1e30)


def test_new_weights_depend_on_their_names_and_the_seed_alone(make_config) -> None:
    config = make_config(n_layer=8)
    like = torch.empty(300, 40)

    drawn = draw_weight("transformer.h.0.mlp.c_fc.weight", like, config, seed=0)
    torch.manual_seed(5)
    assert torch.equal(drawn, draw_weight("transformer.h.0.mlp.c_fc.weight", like, config, seed=0))
    assert not torch.equal(drawn, draw_weight("transformer.h.1.mlp.c_fc.weight", like, config, seed=0))
    assert not torch.equal(drawn, draw_weight("transformer.h.0.mlp.c_fc.weight", like, config, seed=1))
    assert drawn.std().item() == pytest.approx(config.initializer_range, rel=0.05)
    narrow = draw_weight("transformer.h.0.mlp.c_proj.weight", like, config, seed=0)
    assert narrow.std().item() == pytest.approx(config.initializer_range / 4, rel=0.05)
    assert draw_weight("transformer.ln_f.weight", like[0], config, seed=0).unique().tolist() == [1.0]
    assert draw_weight("transformer.ln_f.bias", like[0], config, seed=0).unique().tolist() == [0.0]
