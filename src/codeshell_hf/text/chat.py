"""Encodes chats, for training and generation.

Special tokens in messages are encoded as ordinary text, so a `<|endoftext|>` in a question does not end it. The
exception is raw code of kind "copilot", in which the three fill-in-the-middle sentinels are special tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import DataError
from ..tokenization_codeshell import CHAT_TEMPLATE, END_OF_TURN, CodeShellTokenizer

NO_LOSS = -100
_ANSWER = f"' ' + read(message) + '{END_OF_TURN}'"
assert CHAT_TEMPLATE.count(_ANSWER) == 1, "the chat template writes the assistant's answer differently"  # noqa: S101
POLICY_TEMPLATE = CHAT_TEMPLATE.replace(_ANSWER, "' ' + read(message) | trim")
"""The chat template for a reward model during RL: it adds no stop, since a policy's answer has one if it ended."""
SENTINELS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")

Message = dict[str, str]
Kind = Literal["chat", "copilot", "original"]


@dataclass(frozen=True)
class Conversation:
    """Turns of a user and an assistant.

    Args:
        messages: Each with `role` and `content`; the last is the assistant's.
        language: "en" or "zh", if known.
        tests: Python code that checks the answer, if any.
        kind: "chat", "copilot" for raw code to continue or fill in, or "original" for chats as the released script of
            fine-tuning writes them.
        without_loss: Places of assistant's messages that are not learned.
        thread: Conversations of one thread, such as a tree of messages, stay on one side of a split.
    """

    messages: tuple[Message, ...]
    language: str | None = None
    tests: str | None = None
    kind: Kind = "chat"
    without_loss: tuple[int, ...] = ()
    thread: str | None = None

    @property
    def prompt(self) -> list[Message]:
        """All messages but the last answer."""
        return list(self.messages[:-1])

    @property
    def reference(self) -> str:
        """The last answer."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation as a training row.

    Args:
        ids: Tokens.
        labels: Of the same length: the token in an answer and its stop, else -100.
    """

    ids: list[int]
    labels: list[int]


def encode_conversation(tokenizer: CodeShellTokenizer, conversation: Conversation) -> EncodedConversation:
    """Encodes a conversation with the chat template, followed by the end-of-text token.

    The released format ends a turn with the text `|<end>|`. The end-of-text token stops every server, including those
    that do not know this text, and follows each document in pretraining.

    Args:
        tokenizer: Has a chat template that marks the assistant's messages.

    Returns:
        Tokens and labels; the loss is over the assistant's messages, their stops, and the end-of-text token, but for
        messages of `without_loss`.
    """
    if conversation.kind == "copilot":
        return _encode_completion(tokenizer, conversation)
    if conversation.kind == "original":
        return _encode_original(tokenizer, conversation)
    encoded = tokenizer.apply_chat_template(
        list(conversation.messages),
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"split_special_tokens": True},
    )
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    mask = _drop_unlearned(mask, conversation)
    end = tokenizer.eos_token_id
    labels = [token if is_answer else NO_LOSS for token, is_answer in zip(ids, mask, strict=True)]
    is_learned = len(conversation.messages) - 1 not in conversation.without_loss
    return EncodedConversation([*ids, end], [*labels, end if is_learned else NO_LOSS])


def _drop_unlearned(mask: Sequence[int], conversation: Conversation) -> list[int]:
    """Takes the answers without a loss out of a mask, in which every answer is one run of ones.

    Raises:
        DataError: If the template does not write the answers so.
    """
    silenced = list(mask)
    if not conversation.without_loss:
        return silenced
    answers = [number for number, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    places = [place for place, is_answer in enumerate([*mask, 0]) if is_answer != ([0, *mask][place])]
    runs = list(zip(places[::2], places[1::2], strict=True))
    if len(runs) != len(answers):
        raise DataError(
            f"the chat template marks {len(runs)} of {len(answers)} answers, so one without a loss is not known; "
            "fix its generation blocks"
        )
    for number, (start, stop) in zip(answers, runs, strict=True):
        if number in conversation.without_loss:
            silenced[start:stop] = [0] * (stop - start)
    return silenced


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Encodes a chat up to the start of the assistant's answer.

    Args:
        tokenizer: Any of transformers, with a chat template. Special tokens of the template are encoded as such, those
            in messages as ordinary text.
        messages: The last is the user's.
    """
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    specials = list_special_tokens(tokenizer)
    if not any(_contains(message["content"], specials) for message in messages):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids: list[int] = []
    for piece, is_message in _split_template(tokenizer, messages, text, specials):
        ids += tokenizer(piece, add_special_tokens=False, split_special_tokens=is_message)["input_ids"]
    return ids


def list_special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Lists the texts that a tokenizer encodes as a special token."""
    return [str(token) for token in tokenizer.added_tokens_decoder.values()]


def _contains(text: str, tokens: Iterable[str]) -> bool:
    return any(token in text for token in tokens)


def _split_template(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, specials: Sequence[str]
) -> list[tuple[str, bool]]:
    """Splits a rendered chat into text of the template and text of messages, which is marked by True."""
    marks = [f"\ue000{number}\ue001" for number in range(len(messages))]
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    frame = tokenizer.apply_chat_template(marked, add_generation_prompt=True, tokenize=False)
    if not _contains(frame, specials):  # as one piece, which keeps merges across boundaries
        return [(text, True)]
    pieces: list[tuple[str, bool]] = []
    rest = text
    for message, mark in zip(messages, marks, strict=True):
        before, _, frame = frame.partition(mark)
        content = message["content"]
        content = content if rest.startswith(before + content) else content.strip()  # as some templates do
        pieces += [(before, False), (content, True)]
        rest = rest.removeprefix(before + content)
    pieces.append((frame, False))
    if "".join(piece for piece, _ in pieces) != text:
        raise DataError("the chat template changes messages, so special tokens in them cannot be recognised")
    return [(piece, is_message) for piece, is_message in pieces if piece]


def encode_answer(tokenizer: CodeShellTokenizer, messages: Sequence[Message], answer: str) -> list[int]:
    """Encodes a prompt and an answer for the reward model and DPO: up to the stop, without the end-of-text token."""
    turns = (*messages, {"role": "assistant", "content": answer})
    return encode_conversation(tokenizer, Conversation(turns)).ids[:-1]


def clean_answer(text: str) -> tuple[str, bool]:
    """Cuts an answer at its stop, and returns whether there was one.

    >>> clean_answer(" x = 1|<end>|## human:")
    ('x = 1', True)
    """
    before, stop, _ = text.partition(END_OF_TURN)
    return before.strip(), bool(stop)


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int, *, side: Literal["left", "right"]) -> tuple[Tensor, Tensor]:
    """Pads rows to one length, on the left for generation and on the right for training.

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


def split_conversation(row: EncodedConversation, max_tokens: int) -> list[EncodedConversation]:
    """Splits a row that is too long into pieces, and drops those without a label."""
    pieces = [
        EncodedConversation(row.ids[first : first + max_tokens], row.labels[first : first + max_tokens])
        for first in range(0, len(row.ids), max_tokens)
    ]
    # The first token of a row is never predicted.
    return [piece for piece in pieces if any(label != NO_LOSS for label in piece.labels[1:])]


ORIGINAL_NAMES = {"user": "## human:", "assistant": "## assistant:"}
ORIGINAL_END = f" {END_OF_TURN} "


def _encode_original(tokenizer: CodeShellTokenizer, conversation: Conversation) -> EncodedConversation:
    """As the released script of fine-tuning does: the end of text first, and spaces around the end of a turn.

    Names, texts and ends are encoded apart. The loss is over answers and the ends behind them.
    """
    ids = [tokenizer.eos_token_id]
    labels = [NO_LOSS]
    end = tokenizer.encode_text(ORIGINAL_END)
    for number, message in enumerate(conversation.messages):
        name = tokenizer.encode_text(ORIGINAL_NAMES[message["role"]])
        said = [*tokenizer.encode_text(message["content"]), *end]
        is_learned = message["role"] == "assistant" and number not in conversation.without_loss
        ids += [*name, *said]
        labels += [NO_LOSS] * len(name) + (said if is_learned else [NO_LOSS] * len(said))
    return EncodedConversation(ids, labels)


def _encode_completion(tokenizer: CodeShellTokenizer, conversation: Conversation) -> EncodedConversation:
    ids: list[int] = []
    labels: list[int] = []
    for number, message in enumerate(conversation.messages):
        if message["role"] == "user":
            tokens = _encode_raw(tokenizer, message["content"])
        else:
            tokens = [*tokenizer.encode_text(message["content"]), tokenizer.eos_token_id]
        is_learned = message["role"] == "assistant" and number not in conversation.without_loss
        labels += tokens if is_learned else [NO_LOSS] * len(tokens)
        ids += tokens
    return EncodedConversation(ids, labels)


def _encode_raw(tokenizer: CodeShellTokenizer, text: str) -> list[int]:
    if not text.startswith(SENTINELS[0]):
        return tokenizer.encode_text(text)
    prefix, found_suffix, rest = text.removeprefix(SENTINELS[0]).partition(SENTINELS[1])
    suffix, found_middle, after = rest.partition(SENTINELS[2])
    if not found_suffix or not found_middle or after:
        raise DataError(
            f"a copilot turn starts with {SENTINELS[0]} but is not {SENTINELS[0]}...{SENTINELS[1]}...{SENTINELS[2]}; "
            "write all three in this order, the last one at the end"
        )
    return tokenizer.encode_infilling(prefix, suffix)
