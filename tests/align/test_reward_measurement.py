"""Rewards before and after: weighted sums, means per prompt, and which prompts are compared."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.reward_hacking import describe_copies
from codeshell_hf.align.reward_measurement import (
    RewardMeasurement,
    compare_rewards,
    find_room,
    score_answers,
    weigh,
)
from codeshell_hf.align.rewards import GuardedReward, WeightedReward
from codeshell_hf.align.settings import MeasureSettings
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.decode import Answer

QUESTION = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}


def make_reward(name: str, weight: float, values: Sequence[float | None]) -> WeightedReward:
    return WeightedReward(name, weight, GuardedReward(lambda **_: values, max_bad_fraction=1.0))


def test_the_weighted_sum_adds_each_trained_reward_by_its_weight() -> None:
    """Two prompts of two answers; the weights are of both signs, and the judge's values do not count."""
    conversations = [Conversation((QUESTION, ANSWER))] * 2
    answers = [[Answer("a", True, (1, 2, 3)), Answer("b", False, (1, 2, 3, 4, 5))]] * 2
    rewards = [
        make_reward("tests", 2.0, [1.0, 0.0, 1.0, 1.0]),
        make_reward("length", -0.5, [1.0, 1.0, 0.0, 4.0]),
        make_reward("format", 0.0, [7.0, 7.0, 7.0, 7.0]),
    ]

    measured = score_answers(conversations, answers, rewards, device=torch.device("cpu"))

    assert measured == {
        "tests": [0.5, 1.0],
        "length": [1.0, 2.0],
        "format": [7.0, 7.0],
        "weighted": [2.0 * 0.5 - 0.5 * 1.0, 2.0 * 1.0 - 0.5 * 2.0],
        "tokens": [4.0, 4.0],
        "finished": [0.5, 0.5],
    }


def test_rewards_get_the_answers_as_the_trainer_hands_them() -> None:
    seen: dict[str, object] = {}

    def watch(**columns: object) -> list[float]:
        seen.update(columns)
        return [0.0, 0.0]

    conversation = Conversation((QUESTION, ANSWER), tests="assert x")
    reward = WeightedReward("tests", 1.0, GuardedReward(watch))
    score_answers(
        [conversation],
        [[Answer("a", True, (7, 0)), Answer("b", False, (7, 8, 9))]],
        [reward],
        device=torch.device("cpu"),
    )

    assert seen == {
        "completions": [
            [{"role": "assistant", "content": "a|<end>|"}],
            [{"role": "assistant", "content": "b"}],
        ],
        "prompts": [[QUESTION]] * 2,
        "tests": ["assert x"] * 2,
        "reference": ["a", "a"],
        "completion_ids": [[7, 0], [7, 8, 9]],
    }


def test_a_missing_reward_adds_nothing_to_the_sum() -> None:
    assert weigh({"a": [1.0, math.nan], "b": [0.5, 0.5]}, {"a": 2.0, "b": 1.0}) == [2.5, 0.5]


def test_only_prompts_with_a_value_both_times_are_compared() -> None:
    before = {"tests": [0.0, math.nan, 0.5, 0.0], "tokens": [1.0, 2.0, 3.0, 4.0]}
    after = {"tests": [1.0, 1.0, 1.0, math.nan], "tokens": [1.0, 2.0, 3.0, 8.0]}

    changes = compare_rewards(before, after, seed=0)

    assert (changes["tests"].before, changes["tests"].after, changes["tests"].prompts) == (0.25, 1.0, 2)
    assert changes["tokens"].after - changes["tokens"].before == 1.0
    assert compare_rewards({"tests": [math.nan, 1.0]}, {"tests": [1.0, 1.0]}, seed=0) == {}


def write_conversations(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"prompt": asked, "completion": said}) + "\n" for asked, said in pairs))
    return path


def count_words(completions: Sequence[list[dict[str, str]]], **_: object) -> list[float]:
    return [float(len(completion[-1]["content"].removesuffix("|<end>|").split())) for completion in completions]


@pytest.fixture
def measurement(tmp_path: Path) -> RewardMeasurement:
    """Three held-out prompts, and two tuned answers, of three words and of one."""
    prompts = write_conversations(tmp_path / "prompts.jsonl", [("add 1", "?"), ("take 2", "?"), ("add 3", "?")])
    tuned = write_conversations(tmp_path / "tuned.jsonl", [("add 8", "x + 8"), ("take 9", "y")])
    settings = MeasureSettings(prompts=(prompts,), per_prompt=1, max_new_tokens=4, copy_from=(tuned,))
    return RewardMeasurement(settings, tmp_path / "before.json", seed=0)


def test_copies_are_rewarded_as_answers_are_and_compared_with_the_models(
    measurement: RewardMeasurement,
    tiny_model: Callable[..., CodeShellForCausalLM],
    tiny_tokenizer: CodeShellTokenizer,
    tmp_path: Path,
) -> None:
    rewards = [WeightedReward("words", 2.0, GuardedReward(count_words))]

    measurement.take_copies(tiny_model(vocab_size=len(tiny_tokenizer)), tiny_tokenizer, rewards)
    measurement.taken = [{}, {"words": [4.0, 4.0, 4.0], "weighted": [8.0, 8.0, 8.0], "tokens": [1.0, 1.0, 1.0]}]
    changes = measurement.compare_with_copies()
    measurement.write(tmp_path / "measured.json")

    assert measurement.copied["words"] == [3.0, 1.0, 3.0]
    assert set(changes) == {"words", "weighted"}
    assert changes["words"].before == pytest.approx(7 / 3)
    assert changes["words"].after == 4.0
    assert changes["weighted"].after - changes["weighted"].before == pytest.approx(2 * 5 / 3)
    assert json.loads((tmp_path / "measured.json").read_text())["copied"]["words"] == [3.0, 1.0, 3.0]
    assert describe_copies(changes)[0].startswith(
        "copying the nearest tuned answer -> the model: words: 2.333 -> 4.000 (+1.667 ["
    )


def test_without_conversations_to_copy_from_nothing_is_compared(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    prompts = write_conversations(tmp_path / "prompts.jsonl", [("a", "b")])
    measurement = RewardMeasurement(
        MeasureSettings(prompts=(prompts,), max_new_tokens=4), tmp_path / "before.json", seed=0
    )

    measurement.take_copies(tiny_model(vocab_size=len(tiny_tokenizer)), tiny_tokenizer, [])
    measurement.taken = [{"words": [1.0, 2.0]}] * 2

    assert measurement.compare_with_copies() == {}


def test_the_longest_prompt_is_what_leaves_room_or_the_shorter_limit() -> None:
    model = cast("CodeShellForCausalLM", SimpleNamespace(config=SimpleNamespace(n_positions=100)))

    assert [find_room(model, 30, limit) for limit in (None, 50, 90)] == [70, 50, 70]
