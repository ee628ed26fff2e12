"""The choice of attention: what leaks or fails is not chosen, and the fastest of the others is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from codeshell_hf import CodeShellConfig
from codeshell_hf.presets import PRESETS, make_config
from codeshell_hf.train import attention_choice
from codeshell_hf.train.attention import VARLEN, VARLEN_FA4, attend_varlen, register_attention
from codeshell_hf.train.attention_choice import (
    AttentionTrial,
    choose_attention,
    describe_trials,
    find_fastest,
    try_attention,
)

CPU = torch.device("cpu")


def make_small(preset: str) -> CodeShellConfig:
    """The preset's layer types and groups, with narrow heads and short rows."""
    config = make_config(preset)
    heads = config.n_head // (config.num_query_groups or config.n_head) * 2
    config.n_head, config.num_query_groups, config.n_embd, config.n_positions = heads, 2, heads * 16, 128
    return config


@pytest.mark.parametrize("preset", PRESETS)
def test_attention_by_lengths_agrees_with_the_mask_for_every_preset(preset: str) -> None:
    register_attention()

    (trial,) = try_attention(make_small(preset), CPU, torch.bfloat16, [VARLEN])

    assert trial.refusal is None
    assert trial.milliseconds is not None
    assert trial.milliseconds > 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda given: given | {"cu_seq_lens_q": None}, "differs from masked"),  # documents see each other
        (lambda given: given | {"sliding_window": given["sliding_window"] + 1}, "differs from masked"),
        (lambda given: given | {"scaling": given["scaling"] * 1.2}, "differs from masked"),
        (lambda given: given | {"scaling": float("nan")}, "differs from masked"),  # as a kernel that overflows
        (lambda given: torch.linalg.inv(torch.zeros(2, 2)), "singular"),  # a kernel that fails
    ],
)
def test_a_faulty_kernel_is_refused(
    fault: Callable[[dict[str, Any]], dict[str, Any]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_attention()
    config = make_small("nano")
    config.layer_types, config.sliding_window = ["sliding_attention"] * config.n_layer, 32
    (right,) = try_attention(config, CPU, torch.bfloat16, [VARLEN])
    assert right.refusal is None
    AttentionInterface.register(VARLEN, lambda *more, **named: attend_varlen(*more, **fault(named)))
    try:
        (trial,) = try_attention(config, CPU, torch.bfloat16, [VARLEN])
    finally:
        register_attention()

    assert trial.milliseconds is None
    assert reason in str(trial.refusal)


def test_trying_changes_no_random_state_and_no_configuration() -> None:
    # FSDP2 makes its model without memory, and the choice precedes weights that a seed decides.
    config = make_small("nano")
    before, state = config.to_dict(), torch.get_rng_state()

    with torch.device("meta"):
        (trial,) = try_attention(config, CPU, torch.float32, ["sdpa"])

    assert trial.refusal is None
    assert config.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_fastest_that_agrees_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = {
        VARLEN: (2.0, None), "flash_attention_3": (1.0, None), "flash_attention_2": (None, "differs"),
        VARLEN_FA4: (0.5, None),
    }  # fmt: skip

    def fake(config: object, device: object, dtype: object, names: list[str]) -> list[AttentionTrial]:
        return [AttentionTrial(name, *tried[name]) for name in names]

    monkeypatch.setattr(attention_choice, "try_attention", fake)
    monkeypatch.setattr(attention_choice, "has_fa4", lambda device: True)
    monkeypatch.setattr(attention_choice, "is_flash_attn_2_available", lambda: True)
    monkeypatch.setattr(attention_choice, "is_flash_attn_3_available", lambda: True)
    config = make_small("nano")

    trials = choose_attention(config, CPU)
    assert [trial.name for trial in trials] == [VARLEN_FA4, "flash_attention_3", VARLEN, "flash_attention_2"]
    expected = "varlen_fa4 0.5 ms, flash_attention_3 1.0 ms, varlen 2.0 ms, flash_attention_2 refused: differs"
    assert describe_trials(trials) == expected
    config.attn_pdrop = 0.1
    assert choose_attention(config, CPU) == []


def test_ranks_agree_on_the_fastest_that_none_of_them_refused() -> None:
    fast, slow = AttentionTrial("flash_attention_2", 1.0), AttentionTrial(VARLEN, 2.0)
    refused = [AttentionTrial(trial.name, refusal="differs") for trial in (fast, slow)]

    assert find_fastest([[fast, slow], [slow, fast]]) == "flash_attention_2"
    assert find_fastest([[fast, slow], [slow, refused[0]]]) == VARLEN
    assert find_fastest([[refused[0], slow], [fast, slow]]) == VARLEN
    assert find_fastest([[fast, slow], refused]) == "sdpa"
    assert find_fastest([[]]) == "sdpa"


@pytest.mark.parametrize("row", [7, 64, 100])
def test_models_of_short_rows_are_tried_too(row: int) -> None:
    register_attention()
    config = make_small("nano")
    config.n_positions = row

    (trial,) = try_attention(config, CPU, torch.float32, [VARLEN])

    assert trial.refusal is None
