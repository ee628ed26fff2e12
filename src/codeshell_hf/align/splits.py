"""Splits examples into training and held-out sets."""

import json
import random
from collections.abc import Sequence
from typing import TypeVar

from ..errors import DataError
from .preferences import Pair

Item = TypeVar("Item")


def split_held_out(items: Sequence[Item], fraction: float, seed: int, *, what: str) -> tuple[list[Item], list[Item]]:
    """The items to train on, shuffled, and the held-out fraction; `what` names them in errors.

    Raises:
        DataError: If one of the two would be empty.
    """
    count = round(len(items) * fraction)
    if count < 1 or count >= len(items):
        raise DataError(
            f"{len(items)} {what} were read, of which {fraction} is {count} to measure on; "
            f"change held_out_fraction or add {what}"
        )
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[count:], shuffled[:count]


def split_pairs(pairs: Sequence[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Splits by prompt as `split_held_out` does, so that no prompt is on both sides."""
    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(json.dumps(pair.prompt), []).append(pair)
    parts = split_held_out(list(by_prompt.values()), fraction, seed, what="prompts")
    train, held_out = ([pair for group in part for pair in group] for part in parts)
    random.Random(seed).shuffle(train)
    return train, held_out
