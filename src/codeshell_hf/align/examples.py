"""Training examples in the format of TRL's trainers: pairs and prompts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from ..errors import DataError
from ..text.chat import Conversation, Message, encode_answer, encode_prompt
from ..text.conversation_files import ConversationSet, read_conversation_set
from ..text.settings import Reading
from ..tokenization_codeshell import CodeShellTokenizer
from .preferences import Pair


class RewardRow(TypedDict):
    """A row for the reward trainer."""

    chosen_ids: list[int]
    rejected_ids: list[int]


class PreferenceRow(TypedDict):
    """A row for the DPO trainer, which renders it."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class PromptRow(TypedDict):
    """A row for the RLOO and GRPO trainers; `tests` and `reference`, the given answer, go to the rewards."""

    prompt: list[Message]
    tests: str | None
    reference: str


def read_all_prompts(places: Iterable[str | Path], reading: Reading | None = None) -> ConversationSet:
    """Reads conversations for their prompts: their last answers are not used, and need not be there."""
    return read_conversation_set(places, reading or Reading(), needs_answer=False)


def read_all_conversations(places: Iterable[str | Path]) -> list[Conversation]:
    """Reads the conversations of `read_all_prompts`."""
    return read_all_prompts(places).conversations


def make_reward_rows(
    tokenizer: CodeShellTokenizer, pairs: Sequence[Pair], max_tokens: int | None, *, purpose: str
) -> list[RewardRow]:
    """Encodes pairs, and drops those with an answer that is too long together with its prompt.

    Raises:
        DataError: If no pair is left.
    """
    rows: list[RewardRow] = [
        {
            "chosen_ids": encode_answer(tokenizer, pair.prompt, pair.chosen),
            "rejected_ids": encode_answer(tokenizer, pair.prompt, pair.rejected),
        }
        for pair in pairs
    ]
    fitting = [
        row for row in rows if max_tokens is None or max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= max_tokens
    ]
    _check_some_fit(fitting, pairs, max_tokens, purpose)
    return fitting


def make_preference_rows(
    tokenizer: CodeShellTokenizer, pairs: Sequence[Pair], max_tokens: int | None, *, purpose: str
) -> list[PreferenceRow]:
    """Converts pairs to turns, and drops those that TRL would truncate.

    Raises:
        DataError: If no pair is left.
    """
    rows: list[PreferenceRow] = [
        {
            "prompt": list(pair.prompt),
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
        if max_tokens is None
        or max(len(encode_answer(tokenizer, pair.prompt, answer)) for answer in (pair.chosen, pair.rejected))
        <= max_tokens
    ]
    _check_some_fit(rows, pairs, max_tokens, purpose)
    return rows


def _check_some_fit(rows: Sequence[object], pairs: Sequence[Pair], max_tokens: int | None, purpose: str) -> None:
    if not rows:
        raise DataError(
            f"none of {len(pairs)} pairs to {purpose} on is within {max_tokens} tokens; raise trainer.max_length"
        )


def make_prompt_rows(
    tokenizer: CodeShellTokenizer,
    conversations: Iterable[Conversation],
    *,
    max_new_tokens: int,
    context_tokens: int,
    needs_tests: bool,
    max_prompt_tokens: int | None = None,
) -> tuple[list[PromptRow], dict[str, int]]:
    """Keeps the prompts that can be learned from: those with room for an answer, and with tests if only tests reward.

    Returns:
        Rows, and the number of dropped prompts by reason.

    Raises:
        DataError: If none is left.
    """
    dropped: Counter[str] = Counter()
    rows: list[PromptRow] = []
    for conversation in conversations:
        if needs_tests and not conversation.tests:
            dropped["prompts have no tests"] += 1
        elif (tokens := len(encode_prompt(tokenizer, conversation.prompt))) > context_tokens - max_new_tokens:
            dropped[f"prompts leave no room for an answer in {context_tokens} positions"] += 1
        elif max_prompt_tokens is not None and tokens > max_prompt_tokens:
            dropped[f"prompts are longer than {max_prompt_tokens} tokens"] += 1
        else:
            rows.append(
                {"prompt": conversation.prompt, "tests": conversation.tests, "reference": conversation.reference}
            )
    if not rows:
        named = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DataError(f"no prompt is left to learn from ({named}); add prompts or change rewards")
    return rows, dict(dropped)
