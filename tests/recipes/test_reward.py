"""The reward model: its accuracy on held-out pairs, and what is dropped."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codeshell_hf.align.preferences import read_all_pairs
from codeshell_hf.align.reward_model import load_reward_model, score_texts
from codeshell_hf.align.splits import split_pairs
from tests.recipes.toy_alignment import hold_no_training_state, pair_settings, read_output, run, write_lines

pytestmark = pytest.mark.xdist_group("alignment")


@pytest.mark.parametrize("batch", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_held_out_accuracy_is_that_of_every_pair_scored_by_itself(aligned: Path, tmp_path: Path, batch: int) -> None:
    """Batches that do not divide the pairs, against the saved model on each answer alone."""
    settings = pair_settings(aligned, tmp_path / "out", max_steps=4, per_device_eval_batch_size=batch)
    settings |= {"pairs": [str(aligned / "preferences" / "pairs.jsonl")], "held_out_fraction": 0.4}

    assert run("reward", settings, tmp_path) == 0

    reward_model = load_reward_model(tmp_path / "out" / "model")
    _, held_out = split_pairs(read_all_pairs([aligned / "preferences" / "pairs.jsonl"]).pairs, 0.4, 0)
    right = []
    for pair in held_out:
        turns = [
            [*pair.prompt, {"role": "assistant", "content": f"{text}|<end>|"}] for text in (pair.chosen, pair.rejected)
        ]
        chosen, rejected = (score_texts(reward_model, [one])[0] for one in turns)
        right.append(chosen > rejected)
    assert len(held_out) % 5 != 0
    manifest = read_output(tmp_path / "out")
    assert manifest.counts["held_out"] == len(held_out)
    assert manifest.measures["held_out_accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-4)
    assert (tmp_path / "out" / "calibration.svg").read_text().startswith("<svg")
    hold_no_training_state(tmp_path / "out" / "model")


def test_every_weight_moves_and_the_new_head_is_no_longer_zero(aligned: Path) -> None:
    before = load_file(aligned / "sft" / "model" / "model.safetensors")
    after = load_file(aligned / "reward" / "model" / "model.safetensors")

    assert after["score.weight"].abs().max() > 0
    # The last bias adds the same to both scores of a pair, so but for rounding its gradient is zero.
    still = [key for key in before if key in after and torch.equal(before[key], after[key])]
    assert set(still) <= {"transformer.ln_f.bias"}


def test_pairs_that_are_too_long_are_counted(aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"prompt": f"q{i}", "chosen": "x" * (500 if i == 0 else 1), "rejected": "y"} for i in range(8)]
    pairs = write_lines(tmp_path / "pairs.jsonl", [*lines, {**lines[1], "rejected": "x"}])
    settings = pair_settings(aligned, tmp_path / "out", max_length=64, max_steps=1)
    settings |= {"pairs": [str(pairs)], "held_out_fraction": 0.25}

    for stage in ("reward", "dpo"):
        assert run(stage, settings, tmp_path) == 0
        counts = read_output(tmp_path / "out").counts
        assert counts["longer_than_max_length"] == 1
        assert counts["dropped"] == {"chosen equals rejected": 1}
        assert counts["pairs"] + counts["held_out"] == 7
