"""Conversations as tokens, with labels that say on which of them the loss falls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import DataError
from ..tokenization_codeshell import CHAT_TEMPLATE, END_OF_TURN, CodeShellTokenizer
from .conversations import Conversation, Message

NO_LOSS = -100
POLICY_TEMPLATE = CHAT_TEMPLATE.replace(
    f"message['content'] + '{END_OF_TURN}' -}}}}{{%- endgen", "message['content'] | trim -}}{%- endgen"
)
"""The chat template for a reward model that reads what a policy said: the stop is there if the policy wrote it."""
SENTINELS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")


@dataclass(frozen=True)
class Rendered:
    """A conversation for a model.

    Args:
        ids: Tokens.
        labels: As many: the token where it is the assistant's or its stop, -100 elsewhere.
    """

    ids: list[int]
    labels: list[int]


def render_conversation(tokenizer: CodeShellTokenizer, conversation: Conversation) -> Rendered:
    """Renders a conversation by the tokenizer's chat template, and ends it with the end-of-text token.

    The released format ends a turn with the text `|<end>|`. The token after it lets every tool that knows nothing of
    that text stop, and it is what follows each document in pretraining. What the turns say is text, whatever it is: a
    `<|endoftext|>` in a question stays the letters it is made of.

    Args:
        tokenizer: With a chat template that marks the assistant's words.
        conversation: What to render.

    Returns:
        Tokens and labels; the loss falls on the assistant's words, their stop, and the end.
    """
    if conversation.kind == "copilot":
        return _render_raw(tokenizer, conversation)
    rendered = tokenizer.apply_chat_template(
        list(conversation.messages),
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"split_special_tokens": True},
    )
    ids, mask = rendered["input_ids"], rendered["assistant_masks"]
    end = [tokenizer.eos_token_id]
    labels = [token if is_answer else NO_LOSS for token, is_answer in zip(ids, mask, strict=True)]
    return Rendered([*ids, *end], [*labels, *end])


def render_prompt(tokenizer: CodeShellTokenizer, messages: Sequence[Message]) -> list[int]:
    """Renders what an answer follows.

    Args:
        tokenizer: With a chat template.
        messages: The last is the user's.

    Returns:
        Tokens, up to where the assistant speaks.
    """
    rendered = tokenizer.apply_chat_template(
        list(messages),
        add_generation_prompt=True,
        return_dict=True,
        tokenizer_kwargs={"split_special_tokens": True},
    )
    return list(rendered["input_ids"])


def render_answer(tokenizer: CodeShellTokenizer, messages: Sequence[Message], answer: str) -> list[int]:
    """Renders a prompt and an answer to it, as the reward model and the comparison of two answers read them.

    Args:
        tokenizer: With a chat template.
        messages: The prompt; the last is the user's.
        answer: What the assistant says.

    Returns:
        Tokens up to the stop, without the end-of-text token.
    """
    turns = (*messages, {"role": "assistant", "content": answer})
    return render_conversation(tokenizer, Conversation(turns)).ids[:-1]


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int, *, side: Literal["left", "right"]) -> tuple[Tensor, Tensor]:
    """Puts rows of different lengths into one batch.

    Args:
        rows: Tokens of each.
        pad_id: What fills them up.
        side: Where: "left" to go on writing, "right" to read.

    Returns:
        Tokens and mask, both of shape (B, T), int64.

    >>> pad_rows([[5], [6, 7]], 0, side="left")[0].tolist()
    [[0, 5], [6, 7]]
    """
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        place = slice(longest - len(row), longest) if side == "left" else slice(len(row))
        ids[index, place] = torch.tensor(row)
        mask[index, place] = 1
    return ids, mask


def split_rendered(rendered: Rendered, max_tokens: int) -> list[Rendered]:
    """Cuts what is too long into pieces that fit; pieces on which no loss falls are left out.

    Args:
        rendered: Of any length.
        max_tokens: Longest piece.

    Returns:
        One or more pieces, or none if only unlabelled ones come of it.
    """
    pieces = [
        Rendered(rendered.ids[first : first + max_tokens], rendered.labels[first : first + max_tokens])
        for first in range(0, len(rendered.ids), max_tokens)
    ]
    # The first label of a row is never predicted.
    return [piece for piece in pieces if any(label != NO_LOSS for label in piece.labels[1:])]


def _render_raw(tokenizer: CodeShellTokenizer, conversation: Conversation) -> Rendered:
    ids: list[int] = []
    labels: list[int] = []
    for message in conversation.messages:
        if message["role"] == "user":
            tokens = _encode_raw(tokenizer, message["content"])
            labels += [NO_LOSS] * len(tokens)
        else:
            tokens = [*tokenizer.encode_text(message["content"]), tokenizer.eos_token_id]
            labels += tokens
        ids += tokens
    return Rendered(ids, labels)


def _encode_raw(tokenizer: CodeShellTokenizer, text: str) -> list[int]:
    if not text.startswith(SENTINELS[0]):
        return tokenizer.encode_text(text)
    prefix, found_suffix, rest = text.removeprefix(SENTINELS[0]).partition(SENTINELS[1])
    suffix, found_middle, after = rest.partition(SENTINELS[2])
    if not found_suffix or not found_middle or after:
        raise DataError(
            f"a copilot turn begins with {SENTINELS[0]} but is not {SENTINELS[0]}...{SENTINELS[1]}...{SENTINELS[2]}; "
            "write all three in this order, the last one at the end"
        )
    return tokenizer.encode_infilling(prefix, suffix)
