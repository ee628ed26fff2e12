"""Direct preference optimisation."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.preferences import Pair, read_all_pairs
from codeshell_hf.align.splits import split_pairs
from tests.backends import BACKEND
from tests.recipes.toy_alignment import QUESTIONS, hold_no_training_state, pair_settings, read_output, run
from tests.warm import start

pytestmark = pytest.mark.xdist_group("alignment")


def test_direct_preferences_are_learnt_and_judged_by_tests(aligned: Path, tmp_path: Path) -> None:
    options = {"max_steps": 16, "learning_rate": 1e-3, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}
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
    measured = json.loads((tmp_path / "out" / "measured.json").read_text())
    pairs = read_all_pairs([aligned / "preferences" / "pairs.jsonl", aligned / "pairs.jsonl"]).pairs
    learned = {pair.prompt[0]["content"] for pair in split_pairs(pairs, 0.34, 0)[0]}
    gains = [
        after - before
        for question, before, after in zip(
            QUESTIONS, measured["before"]["tests"], measured["after"]["tests"], strict=True
        )
        if question in learned
    ]
    assert len(gains) == 2
    assert sum(gains) > 0.2, "of the prompts that were learned from"
    assert measures["measured"]["tests"]["prompts"] == 3
    hold_no_training_state(tmp_path / "out" / "model")


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["hinge", "ipo", "robust", "apo_zero"])
def test_dpos_variants_take_a_step(aligned: Path, tmp_path: Path, loss_type: str) -> None:
    options = {"max_steps": 1, "loss_type": [loss_type], "label_smoothing": 0.1}

    assert run("dpo", pair_settings(aligned, tmp_path / "out", **options), tmp_path) == 0
    assert read_output(tmp_path / "out").counts["steps"] == 1


def sum_answer(model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, pair: Pair, answer: str) -> float:
    """The log-probability of an answer and its stop, from one unpadded row."""
    turns = [*pair.prompt, {"role": "assistant", "content": answer}]
    prompt = tokenizer.apply_chat_template(list(pair.prompt), add_generation_prompt=True)["input_ids"]
    ids = tokenizer.apply_chat_template(turns)["input_ids"]
    assert ids[: len(prompt)] == prompt
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return float(logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][len(prompt) - 1 :].sum())


def measure_by_hand(home: Path, trained: Path, pairs: Path, beta: float) -> dict[str, float]:
    tokenizer = CodeShellTokenizer.from_pretrained(trained)
    models = [CodeShellForCausalLM.from_pretrained(path, dtype="float32") for path in (home / "sft" / "model", trained)]
    margins = []
    for pair in split_pairs(read_all_pairs([pairs]).pairs, 0.34, 0)[1]:
        (old_good, old_bad), (good, bad) = (
            [sum_answer(model, tokenizer, pair, text) for text in (pair.chosen, pair.rejected)] for model in models
        )
        margins.append(beta * ((good - old_good) - (bad - old_bad)))
    return {
        "held_out_loss_after": sum(math.log(1 + math.exp(-margin)) for margin in margins) / len(margins),
        "held_out_margin": sum(margins) / len(margins),
        "held_out_accuracy": sum(margin > 0 for margin in margins) / len(margins),
    }


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_held_out_pairs_are_measured_one_by_one_on_any_number_of_ranks(
    aligned: Path, tmp_path: Path, ranks: int
) -> None:
    """Batches of three do not divide the held-out pairs, nor do two ranks."""
    pairs = tmp_path / "pairs.jsonl"
    lines = (aligned / "preferences" / "pairs.jsonl").read_text().split("\n")[:7]
    pairs.write_text("\n".join([*lines, *(aligned / "pairs.jsonl").read_text().split("\n")[:3]]))
    options = {"max_steps": 6, "per_device_eval_batch_size": 3, "learning_rate": 1e-3}
    settings = {**pair_settings(aligned, tmp_path / "out", **options), "pairs": [str(pairs)]}

    if ranks == 1:
        assert run("dpo", settings, tmp_path) == 0
    else:
        (tmp_path / "dpo.yaml").write_text(json.dumps(settings))
        process = start("-m", "recipes.dpo", str(tmp_path / "dpo.yaml"), ranks=ranks, is_warm=True)
        printed = process.communicate(timeout=240)[0]
        assert process.returncode == 0, printed[-3000:]

    measures = read_output(tmp_path / "out").measures
    expected = measure_by_hand(aligned, tmp_path / "out" / "model", pairs, beta=0.1)
    assert {name: measures[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert measures["held_out_loss_before"] == pytest.approx(math.log(2), abs=1e-4)
    assert measures["held_out_margin"] != 0


def test_kto_learns_from_the_same_pairs(aligned: Path, tmp_path: Path) -> None:
    settings = pair_settings(aligned, tmp_path / "out", max_steps=6, learning_rate=3e-3)

    assert run("dpo", {**settings, "method": "kto"}, tmp_path) == 0

    measures = read_output(tmp_path / "out").measures
    assert math.isfinite(measures["held_out_margin"])
    assert measures["held_out_loss_after"] is None, "its loss is not one of pairs"
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    rewards = {name: [entry[name] for entry in log if name in entry] for name in ("rewards/chosen", "rewards/rejected")}
    assert rewards["rewards/chosen"][-1] > rewards["rewards/rejected"][-1]
