"""Direct preference optimisation."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.backends import BACKEND
from tests.recipes.toy_alignment import hold_no_training_state, pair_settings, read_output, run

pytestmark = pytest.mark.xdist_group("alignment")


def test_direct_preferences_are_learnt_and_judged_by_tests(aligned: Path, tmp_path: Path) -> None:
    options = {"max_steps": 12, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}
    settings = pair_settings(aligned, tmp_path / "out", **options)
    settings |= {
        "pairs": [str(aligned / "preferences" / "pairs.jsonl"), str(aligned / "pairs.jsonl")],
        "sandbox": BACKEND,
        "measure": {"prompts": [str(aligned / "prompts.jsonl")], "per_prompt": 32, "max_new_tokens": 24},
    }

    assert run("dpo", settings, tmp_path) == 0

    measures = read_output(tmp_path / "out").measures
    before = load_file(aligned / "sft" / "model" / "model.safetensors")
    after = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert measures["measured"]["tests"]["after"] > measures["measured"]["tests"]["before"]
    hold_no_training_state(tmp_path / "out" / "model")


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["hinge", "ipo", "robust", "apo_zero"])
def test_dpos_variants_take_a_step(aligned: Path, tmp_path: Path, loss_type: str) -> None:
    options = {"max_steps": 1, "loss_type": [loss_type], "label_smoothing": 0.1}

    assert run("dpo", pair_settings(aligned, tmp_path / "out", **options), tmp_path) == 0
    assert read_output(tmp_path / "out").counts["steps"] == 1
