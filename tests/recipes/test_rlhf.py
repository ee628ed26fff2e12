"""Learning from rewards: what rises, how rewards are mixed, ranks and kills."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from tests.recipes.toy_alignment import hold_no_training_state, read_output, rlhf_settings, run, write_lines
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


@pytest.mark.parametrize("method", ["rloo", pytest.param("grpo", marks=pytest.mark.slow)])
def test_a_policy_that_ends_its_turn_by_text_alone_is_trained(aligned: Path, tmp_path: Path, method: str) -> None:
    """Like the released chat model, it never gives the end of text."""
    end = CodeShellTokenizer.from_pretrained(aligned / "sft" / "model").eos_token_id
    settings = rlhf_settings(aligned, tmp_path / "out", max_steps=5, generation_kwargs={"suppress_tokens": [end]})

    assert run("rlhf", {**settings, "method": method, "measure": None}, tmp_path) == 0

    log = json.loads((tmp_path / "out" / "log.json").read_text())
    steps = [entry for entry in log if "reward" in entry]
    assert sum(entry["completions/clipped_ratio"] for entry in steps) / len(steps) < 0.05
    assert all(float(entry["grad_norm"]) > 0 for entry in steps)
    assert max(entry["completions/mean_length"] for entry in steps) < 20, "nothing behind the turn's end is kept"


def test_answers_are_generated_token_by_token_from_the_cache(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache, each token would cost a pass over the whole prompt and answer."""
    read: list[int] = []
    forward = CodeShellForCausalLM.forward

    def watch(model: CodeShellForCausalLM, *given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            read.append(named["input_ids"].shape[1])
        return forward(model, *given, **named)

    monkeypatch.setattr(CodeShellForCausalLM, "forward", watch)
    settings = rlhf_settings(aligned, tmp_path / "out", max_steps=1)

    assert run("rlhf", {**settings, "measure": None}, tmp_path) == 0

    assert read.count(1) >= 4
    assert len([length for length in read if length > 1]) <= 3, "the prompts, and the answers' probabilities"


def test_a_policy_runs_its_program_reads_the_traceback_and_mends_it(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's own loop, with what the policy says written down: a call, then an answer, of which half are right."""
    seen: list[str] = []
    tokenizer = CodeShellTokenizer.from_pretrained(aligned / "sft" / "model")
    call = '<tool_call>\n{"name": "run", "arguments": {"code": "x = 3\\ny = 3\\nz = 3"}}\n</tool_call>'

    def say(model: CodeShellForCausalLM, *, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        rows = []
        for number, row in enumerate(input_ids.tolist()):
            text = tokenizer.decode(row)
            seen.append(text)
            said = "x = 1\ny = 100\nz = 'z'" if number % 2 else "x = 0\ny = 0\nz = 0"
            rows.append(tokenizer.encode_text(f" {said if '<tool_response>' in text else call}|<end>|"))
        longest = max(map(len, rows))
        ends = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        return torch.cat((input_ids, ends), dim=1)

    monkeypatch.setattr(CodeShellForCausalLM, "generate", say)
    prompts = [json.loads(line) for line in (aligned / "prompts.jsonl").read_text().splitlines()]
    for prompt in prompts:  # of two tests, the first is shown
        prompt["tests"] = f"assert {prompt['tests'].split()[1]} != 3\n{prompt['tests']}"
    options = rlhf_settings(aligned, tmp_path / "out", max_steps=1, max_completion_length=400)
    options["prompts"] = [str(write_lines(tmp_path / "prompts.jsonl", prompts))]
    settings = {**options, "method": "grpo", "environment": {"max_calls": 1}, "measure": None}

    assert run("rlhf", settings, tmp_path) == 0

    entry = json.loads((tmp_path / "out" / "log.json").read_text())[0]
    assert (entry["tools/call_frequency"], entry["tools/failure_frequency"]) == (1.0, 0.0)
    assert entry["rewards/tests/mean"] == 0.5, "the answer behind the result is judged, by all tests"
    assert entry["completions/clipped_ratio"] == 0
    assert float(entry["grad_norm"]) > 0
    said = [len(tokenizer.encode_text(f" {text}|<end>|")) for text in (call, "x = 1\ny = 100\nz = 'z'")]
    assert entry["completions/max_length"] == sum(said), "what the tool said is not learned from"
    results = [text for text in seen if "<tool_response>" in text]
    assert len(results) == 24
    assert all('File "tests.py", line 1' in text and text.endswith("|<end>|## assistant:") for text in results)
    assert {text.count("AssertionError\n</tool_response>") for text in results} == {1}
    assert '"name": "run"' in seen[0]
    assert CodeShellTokenizer.from_pretrained(tmp_path / "out" / "model").response_template is None


def test_copies_of_the_nearest_tuned_answers_are_measured_beside_the_policy(
    aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy was tuned on these very prompts, so that each copy passes."""
    settings = rlhf_settings(aligned, tmp_path / "out")
    measured = {"prompts": [str(aligned / "prompts.jsonl")], "per_prompt": 2, "max_new_tokens": 24}
    settings["measure"] = {**measured, "copy_from": [str(aligned / "prompts.jsonl")]}

    assert run("rlhf", settings, tmp_path) == 0

    manifest = read_output(tmp_path / "out")
    against = manifest.measures["against_copies"]
    assert set(against) == {"tests", "format", "weighted"}
    assert against["tests"]["before"] == 1.0
    assert against["tests"]["after"] == manifest.measures["measured"]["tests"]["after"]
    assert "copying the nearest tuned answer -> the model: tests: 1.000 -> " in capsys.readouterr().out


def test_a_run_in_which_every_answer_is_cut_off_fails(
    aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = rlhf_settings(aligned, tmp_path / "out", max_steps=50, max_completion_length=3)

    assert run("rlhf", {**settings, "measure": None, "max_idle_steps": 2}, tmp_path) == 1

    assert "nothing was learned in 2 steps: every answer was cut off at 3 tokens" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_short_run_whose_rewards_never_differ_fails_at_its_end(
    aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text("def same(completions, **columns):\n    return [0.5] * len(completions)\n")
    settings = rlhf_settings(aligned, tmp_path / "out", max_steps=3, logging_steps=10)
    settings |= {"rewards": [{"kind": "function", "function": f"{tmp_path}/own.py:same"}], "measure": None}

    assert run("rlhf", settings, tmp_path) == 1

    assert "nothing was learned in 3 steps: every answer had the same reward, 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reward_that_is_hacked_is_reported(aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A length penalty alone: answers grow short, fewer of them pass, and the judge that falls is named."""
    settings = rlhf_settings(aligned, tmp_path / "out", max_steps=25)
    settings["rewards"] = [{"kind": "length", "soft_tokens": 1}, {"kind": "tests", "weight": 0.0}]

    assert run("rlhf", settings, tmp_path) == 0

    measures = read_output(tmp_path / "out").measures
    assert measures["measured"]["weighted"]["low"] > 0
    assert measures["measured"]["tests"]["after"] == 0 < measures["measured"]["tests"]["before"]
    assert measures["reward_hacking"] == ["tests"]
    assert "reward hacking: the trained reward rose while tests " in capsys.readouterr().out


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
