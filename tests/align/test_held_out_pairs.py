"""Held-out pairs: every value is a mean over pairs, by hand and against a naive loop."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.held_out_pairs import (
    LOSSES,
    EncodedPair,
    HeldOutPairs,
    PairLogProbs,
    Scored,
    compute_log_probs,
    encode_pair,
    sum_losses,
)

PAIRS = [
    EncodedPair([1, 2, 3], [4, 5], [6]),
    EncodedPair([7], [8, 9, 10, 11], [12, 13]),
    EncodedPair([3, 3], [2], [2, 9, 9, 9, 9]),
]


def sum_naively(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> float:
    """Token by token, each from a forward pass of its own, without padding."""
    total = 0.0
    for place, token in enumerate(answer):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer[:place]]])).logits[0, -1].double()
        total += float(logits.log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_log_probabilities_are_those_of_a_loop_over_tokens_whatever_the_batch(
    tiny_model: Callable[..., CodeShellForCausalLM], batch_size: int
) -> None:
    model = tiny_model()
    model.train()

    found = compute_log_probs(model, PAIRS, batch_size=batch_size, pad_id=0)

    assert model.training
    for pair, values in zip(PAIRS, found, strict=True):
        assert values.chosen == pytest.approx(sum_naively(model.eval(), pair.prompt, pair.chosen), abs=1e-4)
        assert values.rejected == pytest.approx(sum_naively(model, pair.prompt, pair.rejected), abs=1e-4)
        assert (values.chosen_tokens, values.rejected_tokens) == (len(pair.chosen), len(pair.rejected))


def test_losses_margin_and_accuracy_are_means_over_pairs_by_hand(tmp_path: Path) -> None:
    """Log-ratios (2, -1), (-3, 1) and (0.5, 0.5), beta 0.5; margins are 1.5, -2 and 0."""
    reference = [PairLogProbs(-4.0, -2.0, 2, 1), PairLogProbs(-9.0, -3.0, 4, 2), PairLogProbs(-2.0, -9.0, 1, 5)]
    policy = [PairLogProbs(-2.0, -3.0, 2, 1), PairLogProbs(-12.0, -2.0, 4, 2), PairLogProbs(-1.5, -8.5, 1, 5)]
    (tmp_path / "before.json").write_text(json.dumps([list(vars(row).values()) for row in reference]))
    held_out = HeldOutPairs(
        PAIRS, tmp_path / "before.json", losses={"sigmoid": 1.0, "sft": 0.2}, beta=0.5, writes=False
    )
    held_out.take_reference(None, batch_size=1, pad_id=0)  # read, so no model is needed
    scored = [
        Scored(new.chosen - old.chosen, new.rejected - old.rejected, new)
        for new, old in zip(policy, reference, strict=True)
    ]

    before, after = held_out.measure(held_out.untrained), held_out.measure(scored)

    sigmoid = [math.log(1 + math.exp(-margin)) for margin in (1.5, -2.0, 0.0)]
    assert after.loss == pytest.approx(sum(sigmoid) / 3 + 0.2 * (2 + 12 + 1.5) / 7)
    assert after.margin == pytest.approx(-0.5 / 3)
    assert after.accuracy == pytest.approx(1 / 3)
    assert before.loss == pytest.approx(math.log(2) + 0.2 * (4 + 9 + 2) / 7)
    assert (before.margin, before.accuracy) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", math.log(1 + math.exp(-1.5))),
        ("hinge", 0.0),
        ("ipo", (2 / 2 - -1 / 1 - 1) ** 2),
        ("sigmoid_norm", math.log(1 + math.exp(-0.5 * 2))),
        ("apo_zero", 1 - 1 / (1 + math.exp(-1.0)) + 1 / (1 + math.exp(0.5))),
    ],
)
def test_each_loss_of_a_pair_is_that_of_its_paper(name: str, expected: float) -> None:
    pair = Scored(2.0, -1.0, PairLogProbs(-2.0, -3.0, 2, 1))

    assert LOSSES[name](pair, 0.5) == pytest.approx(expected)


def test_a_loss_that_is_not_known_is_none() -> None:
    assert sum_losses([Scored(0.0, 0.0, PairLogProbs(-1, -1, 1, 1))], {"sigmoid": 1.0, "discopop": 0.1}, 0.1) is None


def test_the_reference_is_kept_for_a_resumed_run(
    tiny_model: Callable[..., CodeShellForCausalLM], tmp_path: Path
) -> None:
    path = tmp_path / "before.json"
    first = HeldOutPairs(PAIRS, path, losses={"sigmoid": 1.0}, beta=0.1, writes=True)
    first.take_reference(tiny_model(), batch_size=2, pad_id=0)
    resumed = HeldOutPairs(PAIRS, path, losses={"sigmoid": 1.0}, beta=0.1, writes=True)
    resumed.take_reference(tiny_model(seed=1), batch_size=2, pad_id=0)

    assert resumed.reference == first.reference
    change = resumed.measure_change(resumed.score(tiny_model(seed=1), batch_size=2, pad_id=0), seed=0)
    assert change is not None
    assert change.prompts == 3


def test_an_answer_begins_where_it_differs_from_its_prompt(tiny_tokenizer: CodeShellTokenizer) -> None:
    prompt = [{"role": "user", "content": "q"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("x = 1", "y")]

    pair = encode_pair(tiny_tokenizer, prompt, *answers)

    for ids, text in ((pair.chosen, "x = 1"), (pair.rejected, "y")):
        assert tiny_tokenizer.decode([*pair.prompt, *ids]).endswith(f"{text}|<end>|")
        assert text in tiny_tokenizer.decode(ids)
