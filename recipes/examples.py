"""What alignment learns from: conversations and pairs, read through a tokenizer and split."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.align.preferences import Pair
    from codeshell_hf.text.chat import Conversation

OWN_KEYS = ("output_dir", "seed", "data_seed", "use_cpu")
SHARDING = {"FSDP": "ACCELERATE_USE_FSDP", "DEEPSPEED": "ACCELERATE_USE_DEEPSPEED"}


def open_tokenizer(folder: Path) -> "CodeShellTokenizer":
    """Opens a tokenizer for which a special token in a text is the letters it is made of.

    Args:
        folder: The model's.

    Returns:
        The tokenizer, for training and drawing; saved models get a copy of the folder's own.

    Raises:
        CheckpointError: If there is none.
    """
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import CheckpointError

    try:
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} has no tokenizer ({reason}); name a folder with a model and both") from error
    tokenizer.split_special_tokens = True
    return tokenizer


def read_all_conversations(paths: Iterable[Path]) -> list["Conversation"]:
    """Reads files of conversations.

    Args:
        paths: The files.

    Returns:
        All of them, in order.
    """
    from codeshell_hf.align.conversations import read_conversations

    return [conversation for path in paths for conversation in read_conversations(path)]


def split_held_out(items: Sequence[Any], fraction: float, seed: int, *, what: str) -> tuple[list[Any], list[Any]]:
    """Puts some items aside to measure on.

    Args:
        items: What to split.
        fraction: How many are put aside.
        seed: Decides which.
        what: Their name, for the message.

    Returns:
        The items to train on, shuffled, and those to measure on.

    Raises:
        DataError: If one of them would be empty.
    """
    import random

    from codeshell_hf.errors import DataError

    count = round(len(items) * fraction)
    if count < 1 or count >= len(items):
        raise DataError(
            f"{len(items)} {what} were read, of which {fraction} is {count} to measure on; "
            f"change held_out_fraction or add {what}"
        )
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[count:], shuffled[:count]


def read_all_pairs(paths: Iterable[Path]) -> tuple[list["Pair"], dict[str, int]]:
    """Reads files of pairs.

    Args:
        paths: The files.

    Returns:
        All pairs, in order, and how many were left out, by reason.
    """
    from collections import Counter

    from codeshell_hf.align.preferences import read_pairs

    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for path in paths:
        reading = read_pairs(path)
        pairs += reading.pairs
        dropped += reading.dropped
    return pairs, dict(dropped)


def split_pairs(pairs: Sequence["Pair"], fraction: float, seed: int) -> tuple[list["Pair"], list["Pair"]]:
    """Puts the pairs of some prompts aside, so that no prompt is on both sides.

    Args:
        pairs: What to split.
        fraction: How many prompts are put aside.
        seed: Decides which.

    Returns:
        Pairs to train on, shuffled, and those to measure on.
    """
    import random

    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(json.dumps(pair.prompt), []).append(pair)
    parts = split_held_out(list(by_prompt.values()), fraction, seed, what="prompts")
    train, held_out = ([pair for group in part for pair in group] for part in parts)
    random.Random(seed).shuffle(train)
    return train, held_out
