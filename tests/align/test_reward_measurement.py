"""Rewards before and after: weighted sums, means per prompt, and which prompts are compared."""

import math
from collections.abc import Sequence

import torch

from codeshell_hf.align.reward_measurement import (
    compare_rewards,
    score_answers,
    weigh,
)
from codeshell_hf.align.rewards import GuardedReward, WeightedReward
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
