"""Learning from rewards: what rises, how rewards are mixed, ranks and kills."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.toy_alignment import hold_no_training_state, read_output, rlhf_settings, run
from tests.warm import start

pytestmark = pytest.mark.xdist_group("alignment")


def test_learning_from_tests_raises_their_pass_rate(aligned: Path, tmp_path: Path) -> None:
    """The model gives right and wrong answers alike; after 25 steps far more of them pass."""
    assert run("rlhf", rlhf_settings(aligned, tmp_path / "out", max_steps=25), tmp_path) == 0

    manifest = read_output(tmp_path / "out")
    change = manifest.measures["measured"]["tests"]
    assert change["after"] - change["before"] > 0.15, change
    assert change["prompts"] == 3
    assert set(manifest.measures["measured"]) == {"tests", "format", "weighted", "tokens", "finished"}
    assert (tmp_path / "out" / "rewards.svg").read_text().startswith("<svg")
    before = load_file(aligned / "sft" / "model" / "model.safetensors")
    after = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert {"kl", "reward", "completions/mean_length", "rewards/tests/mean"} <= log[0].keys()
    hold_no_training_state(tmp_path / "out" / "model")


def test_a_reward_that_is_hacked_is_reported(aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A length penalty alone: answers grow short, fewer of them pass, and the judge that falls is named."""
    settings = rlhf_settings(aligned, tmp_path / "out", max_steps=25)
    settings["rewards"] = [{"kind": "length", "soft_tokens": 1}, {"kind": "tests", "weight": 0.0}]

    assert run("rlhf", settings, tmp_path) == 0

    measures = read_output(tmp_path / "out").measures
    assert measures["measured"]["weighted"]["low"] > 0
    assert measures["measured"]["tests"]["high"] < 0
    assert measures["reward_hacking"] == ["tests"]
    assert "reward hacking: the trained reward rose while tests fell" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["rloo", pytest.param("grpo", marks=pytest.mark.slow)])
def test_rewards_mix_by_weight_under_both_methods(aligned: Path, tmp_path: Path, method: str) -> None:
    """Evaluated on held-out prompts while it trains, too."""
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 24}
    settings = rlhf_settings(aligned, tmp_path / "out", **options)
    settings |= {
        "method": method,
        "rewards": [
            {"kind": "model", "path": str(aligned / "reward" / "model"), "weight": 0.5},
            {"kind": "tests", "weight": 2.0},
            {"kind": "length", "soft_tokens": 8, "weight": 0.25},
        ],
        "held_out_prompts": [str(aligned / "prompts.jsonl")],
        "measure": None,
    }

    assert run("rlhf", settings, tmp_path) == 0

    log = json.loads((tmp_path / "out" / "log.json").read_text())
    parts = {name: float(log[0][f"rewards/{name}/mean"]) for name in ("model", "tests", "length")}
    assert float(log[0]["reward"]) == pytest.approx(
        0.5 * parts["model"] + 2 * parts["tests"] + 0.25 * parts["length"], abs=1e-4
    )
    assert [entry["step"] for entry in log if "eval_rewards/tests/mean" in entry] == [1, 2]


@pytest.mark.slow
def test_two_ranks_learn_from_rewards(aligned: Path, tmp_path: Path) -> None:
    settings = rlhf_settings(aligned, tmp_path / "out", per_device_train_batch_size=8)
    (tmp_path / "rlhf.yaml").write_text(json.dumps(settings))

    process = start("-m", "recipes.rlhf", str(tmp_path / "rlhf.yaml"), ranks=2, is_warm=True)
    printed = process.communicate(timeout=240)[0]

    assert process.returncode == 0, printed[-3000:]
    assert printed.count("rlhf: wrote") == 1
    assert read_output(tmp_path / "out").counts["steps"] == 2


@pytest.mark.slow
def test_killed_learning_from_rewards_goes_on(aligned: Path, tmp_path: Path) -> None:
    options = {"max_steps": 12, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    settings = rlhf_settings(aligned, tmp_path / "out", **options)
    (tmp_path / "rlhf.yaml").write_text(json.dumps(settings))
    process = start("-m", "recipes.rlhf", str(tmp_path / "rlhf.yaml"))
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out.partial").glob("checkpoints/checkpoint-3")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)

    again = start("-m", "recipes.rlhf", str(tmp_path / "rlhf.yaml"), is_warm=True)
    printed = again.communicate(timeout=240)[0]

    assert again.returncode == 0, printed[-3000:]
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert [entry["step"] for entry in log if "reward" in entry] == list(range(1, 13))
    assert not (tmp_path / "out" / "checkpoints").exists()
