"""Reward models: a new head, a trained one, and what is no reward model."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellForSequenceClassification, CodeShellTokenizer
from codeshell_hf.align.reward_model import RewardModel, load_reward_model, make_reward_model, score_texts
from codeshell_hf.errors import CheckpointError
from tests.warm import start

QUESTION = {"role": "user", "content": "make x one"}


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer) -> Path:
    """A causal model with its tokenizer."""
    tiny_model().save_pretrained(tmp_path / "causal")
    tiny_tokenizer.save_pretrained(tmp_path / "causal")
    return tmp_path / "causal"


def save_reward_model(folder: Path, tokenizer: CodeShellTokenizer, weight: float) -> Path:
    """A reward model with a head of equal weights."""
    model = make_reward_model(folder, attention="sdpa", pad_token_id=tokenizer.pad_token_id)
    torch.nn.init.constant_(model.score.weight, weight)
    model.score.weight.data[0, 0] += 1.0
    model.save_pretrained(folder.parent / "reward")
    tokenizer.save_pretrained(folder.parent / "reward")
    return folder.parent / "reward"


def turns(text: str) -> list[dict[str, str]]:
    return [QUESTION, {"role": "assistant", "content": text}]


def test_a_new_head_scores_every_text_zero(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    model = make_reward_model(folder, attention="sdpa", pad_token_id=tiny_tokenizer.pad_token_id)

    scores = score_texts(RewardModel(model.eval(), tiny_tokenizer), [turns("x = 1"), turns("x = 2")])

    assert scores == [0.0, 0.0]


def test_a_score_is_that_of_the_text_alone_and_in_its_place(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    reward_model = load_reward_model(save_reward_model(folder, tiny_tokenizer, 0.5))
    texts = [turns("x = 1" * repeats + "|<end>|") for repeats in (5, 1, 3)]

    together = score_texts(reward_model, texts, batch_size=2)

    assert together == pytest.approx([score_texts(reward_model, [text])[0] for text in texts], abs=1e-5)
    assert len({round(score, 3) for score in together}) == 3
    assert not reward_model.model.training
    assert not any(weight.requires_grad for weight in reward_model.model.parameters())


def test_the_space_that_a_policy_begins_with_does_not_matter(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    reward_model = load_reward_model(save_reward_model(folder, tiny_tokenizer, 0.5))

    finished, other, unfinished = score_texts(
        reward_model, [turns(" x = 1|<end>|"), turns("x = 1|<end>|"), turns("x = 1")]
    )

    assert finished == pytest.approx(other, abs=1e-5)
    assert finished != pytest.approx(unfinished, abs=1e-3)


def test_what_is_no_reward_model_is_refused(folder: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    with pytest.raises(CheckpointError, match="causal has no head that gives one score"):
        load_reward_model(folder)
    with pytest.raises(CheckpointError, match="has weights that are not numbers; train the reward model again"):
        load_reward_model(save_reward_model(folder, tiny_tokenizer, math.nan))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_labels": 1}))
    with pytest.raises(CheckpointError, match="causal has no head that gives one score"):
        load_reward_model(folder)
    model = CodeShellForSequenceClassification.from_pretrained(folder, num_labels=3)
    model.save_pretrained(folder.parent / "three")
    with pytest.raises(CheckpointError, match="three has no head that gives one score"):
        load_reward_model(folder.parent / "three")
    with pytest.raises(CheckpointError, match=r"none cannot be loaded .*; name the model of a reward stage"):
        load_reward_model(folder.parent / "none")
    with pytest.raises(CheckpointError, match=r"none cannot be loaded .*; name a complete CodeShell checkpoint"):
        make_reward_model(folder.parent / "none", attention="sdpa", pad_token_id=0)


SHARDED = """
import json, sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from codeshell_hf.align.reward_model import load_reward_model, score_texts, shard_reward_model
from codeshell_hf.align.shared_work import count_ranks
from recipes.with_accelerate import join_ranks
from tests.align.test_reward_model import SCORED
folder = Path(sys.argv[1])
with join_ranks():
    loaded = load_reward_model(folder)
    whole = sum(parameter.numel() for parameter in loaded.model.parameters())
    shard_reward_model(loaded, bf16=False)
    own = sum(parameter.to_local().numel() for parameter in loaded.model.parameters())
    scores = [score_texts(loaded, SCORED)]
    with torch.inference_mode():  # as TRL does
        scores.append(score_texts(loaded, SCORED))
    scores.append(score_texts(loaded, SCORED))
    (folder / f"scores-{count_ranks()[0]}.json").write_text(json.dumps([own / whole, scores]))
"""
SCORED = [[{"role": "user", "content": "q" * size}, {"role": "assistant", "content": "r|<end>|"}] for size in (1, 5, 3)]


@pytest.mark.slow
def test_a_sharded_reward_model_scores_as_a_whole_one(
    folder: Path, tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    reward = save_reward_model(folder, tiny_tokenizer, 0.5)
    (tmp_path / "sharded.py").write_text(SHARDED)
    expected = score_texts(load_reward_model(reward), SCORED)

    process = start(str(tmp_path / "sharded.py"), str(reward), ranks=2)
    printed = process.communicate(timeout=400)[0]

    assert process.returncode == 0, printed[-3000:]
    assert len({round(score, 3) for score in expected}) == 3
    for rank in range(2):
        share, scores = json.loads((reward / f"scores-{rank}.json").read_text())
        assert 0.4 < share < 0.6, "a rank keeps half"
        for again in scores:
            assert again == pytest.approx(expected, abs=1e-5)
