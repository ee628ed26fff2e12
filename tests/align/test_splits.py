"""Held-out splits: disjoint, whole, repeatable."""

import json

import numpy as np
import pytest

from codeshell_hf.align.preferences import Pair
from codeshell_hf.align.splits import split_held_out, split_keys, split_pairs
from codeshell_hf.errors import DataError


def make_pairs(prompts: int, per_prompt: int) -> list[Pair]:
    """Pairs of different prompts in turn, so that a prompt's pairs are far apart."""
    return [
        Pair(({"role": "user", "content": f"q{prompt}"},), f"good {answer}", f"bad {answer}", "tests")
        for answer in range(per_prompt)
        for prompt in range(prompts)
    ]


def prompts_of(pairs: list[Pair]) -> set[str]:
    return {json.dumps(pair.prompt) for pair in pairs}


@pytest.mark.parametrize("seed", range(5))
def test_no_prompt_is_on_both_sides_of_a_split(seed: int) -> None:
    """Splitting 60 pairs of 20 prompts by pair would leave all prompts apart with odds below one in 10^9."""
    pairs = make_pairs(20, 3)

    train, held_out = split_pairs(pairs, 0.25, seed)

    assert prompts_of(train) & prompts_of(held_out) == set()
    assert len(prompts_of(held_out)) == 5
    assert sorted(map(repr, [*train, *held_out])) == sorted(map(repr, pairs))


def test_the_same_seed_splits_alike_and_another_one_does_not() -> None:
    pairs = make_pairs(20, 2)

    assert split_pairs(pairs, 0.25, 1) == split_pairs(pairs, 0.25, 1)
    assert split_pairs(pairs, 0.25, 1)[1] != split_pairs(pairs, 0.25, 2)[1]


def test_a_split_keeps_every_item_once() -> None:
    train, held_out = split_held_out(range(100), 0.1, 0, what="conversations")

    assert sorted([*train, *held_out]) == list(range(100))
    assert len(held_out) == 10
    assert train != sorted(train)


@pytest.mark.parametrize(("items", "fraction"), [(3, 0.1), (3, 0.9), (1, 0.5)])
def test_a_split_with_an_empty_side_is_refused(items: int, fraction: float) -> None:
    with pytest.raises(DataError, match=rf"{items} prompts were read, .* change held_out_fraction or add prompts"):
        split_held_out(range(items), fraction, 0, what="prompts")


@pytest.mark.parametrize("seed", range(4))
def test_without_doubles_keys_split_as_items_do(seed: int) -> None:
    train, held_out = split_keys(np.arange(50) * 7, 0.2, seed, what="conversations")

    assert (train.tolist(), held_out.tolist()) == split_held_out(range(50), 0.2, seed, what="conversations")


@pytest.mark.parametrize("seed", range(6))
def test_a_key_is_on_one_side_alone(seed: int) -> None:
    """Ten keys of six items each: a split by item has them on both sides with odds of over 0.999."""
    keys = np.tile(np.arange(10), 6)

    train, held_out = split_keys(keys, 0.2, seed, what="conversations")

    assert set(keys[train]) & set(keys[held_out]) == set()
    assert len(held_out) == 12
    assert sorted([*train, *held_out]) == list(range(60))


def test_a_key_of_many_items_does_not_fill_the_held_out_side() -> None:
    keys = np.array([0] * 90 + list(range(1, 11)))

    for seed in range(5):
        assert 0 not in keys[split_keys(keys, 0.1, seed, what="conversations")[1]]
    assert len(split_keys(np.array([0] * 9 + [1] * 8), 0.1, 0, what="conversations")[1]) == 8
    with pytest.raises(DataError, match="20 conversations were read, and all are the same one; add others"):
        split_keys(np.zeros(20), 0.1, 0, what="conversations")
