"""Splits examples into training and held-out sets."""

import json
import random
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .preferences import Pair

Item = TypeVar("Item")


def split_held_out(items: Sequence[Item], fraction: float, seed: int, *, what: str) -> tuple[list[Item], list[Item]]:
    """The items to train on, shuffled, and the held-out fraction; `what` names them in errors.

    Raises:
        DataError: If one of the two would be empty.
    """
    count = _count_held_out(len(items), fraction, what)
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[count:], shuffled[:count]


def split_keys(
    keys: NDArray[np.generic], fraction: float, seed: int, *, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits items by their keys, so that items of one key are on one side.

    Without equal keys the split is that of `split_held_out`. Keys go to the held-out side in a random order, but for
    those with more items than are still wanted, until the fraction is reached.

    Args:
        keys: Of each item, shape (N,).

    Returns:
        Places of the items to train on, shuffled, and of those to measure on.

    Raises:
        DataError: If one of the two would be empty.
    """
    _, first, group, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    wanted = _count_held_out(len(keys), fraction, what)
    order = _shuffle(range(len(keys)), seed)
    if len(sizes) == len(keys):
        return order[wanted:], order[:wanted]
    groups = _shuffle(np.argsort(first).tolist(), seed)
    is_held_out = np.zeros(len(sizes), np.bool_)
    left = wanted
    for one in groups:
        if sizes[one] <= left:
            is_held_out[one] = True
            left -= int(sizes[one])
    if not is_held_out.any() and len(sizes) > 1:
        is_held_out[groups[int(np.argmin(sizes[groups]))]] = True
    chosen = is_held_out[group]
    train, held_out = order[~chosen[order]], order[chosen[order]]
    if not len(held_out) or not len(train):
        raise DataError(f"{len(keys)} {what} were read, and all are the same one; add others")
    return train, held_out


def _shuffle(places: Iterable[int], seed: int) -> NDArray[np.int64]:
    shuffled = array("q", places)
    random.Random(seed).shuffle(shuffled)
    return np.asarray(shuffled, np.int64)


def _count_held_out(items: int, fraction: float, what: str) -> int:
    count = round(items * fraction)
    if count < 1 or count >= items:
        raise DataError(
            f"{items} {what} were read, of which {fraction} is {count} to measure on; "
            f"change held_out_fraction or add {what}"
        )
    return count


def split_pairs(pairs: Sequence[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Splits by prompt as `split_held_out` does, so that no prompt is on both sides."""
    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(json.dumps(pair.prompt), []).append(pair)
    parts = split_held_out(list(by_prompt.values()), fraction, seed, what="prompts")
    train, held_out = ([pair for group in part for pair in group] for part in parts)
    random.Random(seed).shuffle(train)
    return train, held_out
