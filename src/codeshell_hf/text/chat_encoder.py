"""Encodes many conversations: as `encode_conversation` does, and several times as fast where it can."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from ..tokenization_codeshell import END_OF_TURN, CodeShellTokenizer
from .chat import NO_LOSS, Conversation, EncodedConversation, encode_conversation
from .ranked_encoder import RankedEncoder, make_ranked_encoder

logger = logging.getLogger(__name__)
COMPARED = 200  # conversations, encoded as transformers does; making the other encoder takes longer than they do


@dataclass(frozen=True)
class EncodedArrays:
    """A conversation as a training row.

    Args:
        ids: Tokens, shape (T,), uint32.
        has_loss: Whether each is learned, shape (T,), bool.
    """

    ids: NDArray[np.uint32]
    has_loss: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


class ChatEncoder:
    """Encodes conversations one after the other.

    The first go through `encode_conversation`. If an encoder on tiktoken gives the same for all of them, it encodes the
    others, without Jinja; not if the tokenizer has another template or kind.

    Args:
        tokenizer: Has a chat template that marks the assistant's messages.
    """

    def __init__(self, tokenizer: CodeShellTokenizer) -> None:
        self._tokenizer = tokenizer
        self._end = np.uint32(tokenizer.eos_token_id)
        self._first: list[tuple[Conversation, EncodedArrays]] = []
        self._quick: RankedEncoder | None = None

    def encode(self, conversation: Conversation) -> EncodedArrays:
        """Encodes a conversation with its loss, and the end of text behind it."""
        if self._quick is not None and conversation.kind == "chat":
            encoded = self._encode_quickly(self._quick, conversation)
            if encoded is not None:
                return encoded
        encoded = _as_arrays(encode_conversation(self._tokenizer, conversation))
        if conversation.kind == "chat" and len(self._first) < COMPARED:
            self._first.append((conversation, encoded))
            if len(self._first) == COMPARED:
                self._choose()
        return encoded

    def _choose(self) -> None:
        if not _is_written_alike(self._tokenizer):
            logger.info("conversations are encoded by transformers: the folder has a chat template of its own")
            return
        try:
            quick = make_ranked_encoder(self._tokenizer.backend_tokenizer)
        except (ImportError, ValueError, KeyError) as error:
            logger.info("conversations are encoded by transformers: %s", error)
            return
        for conversation, expected in self._first:
            encoded = self._encode_quickly(quick, conversation)
            if encoded is not None and not _are_equal(encoded, expected):
                logger.info("conversations are encoded by transformers: tiktoken gives other ids")
                return
        self._quick = quick

    def _encode_quickly(self, quick: RankedEncoder, conversation: Conversation) -> EncodedArrays | None:
        text, spans = write_chat(conversation)
        encoded = quick.encode(text)
        if encoded is None:
            return None
        ids, ends = encoded
        has_loss = np.zeros(len(ids) + 1, np.bool_)
        for start, stop in spans:
            # From the token with the first byte to the one with the last.
            first, last = np.searchsorted(ends, (start, stop - 1), side="right")
            has_loss[first : last + 1] = True
        has_loss[-1] = len(conversation.messages) - 1 not in conversation.without_loss
        return EncodedArrays(np.concatenate((ids, (self._end,)), dtype=np.uint32), has_loss)


def write_chat(conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """Writes a chat as the template does.

    Returns:
        The text, and first and last-but-one byte in UTF-8 of each answer with its stop that carries a loss.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    place = 0
    for number, message in enumerate(conversation.messages):
        if message["role"] == "user":
            piece = f"## human:{message['content']}{END_OF_TURN}"
        else:
            pieces.append("## assistant:")
            place += len("## assistant:")
            piece = f" {message['content']}{END_OF_TURN}"
        size = len(piece) if piece.isascii() else len(piece.encode())
        if message["role"] != "user" and number not in conversation.without_loss:
            spans.append((place, place + size))
        pieces.append(piece)
        place += size
    return "".join(pieces), spans


def _is_written_alike(tokenizer: CodeShellTokenizer) -> bool:
    """Whether a tokenizer's template writes chats as `write_chat` does, at their edges too."""
    ends = (
        {"role": "user", "content": " \nq {{ 1 }} <|endoftext|> é "},
        {"role": "assistant", "content": " \nr|<end>|\n "},
    )
    chats = (ends, (*ends, *ends), (ends[1], *ends), (*ends, ends[1]))
    written = [write_chat(Conversation(chat))[0] for chat in chats]
    try:
        return written == [tokenizer.apply_chat_template(list(chat), tokenize=False) for chat in chats]
    except (ValueError, TemplateError):
        return False


def _as_arrays(encoded: EncodedConversation) -> EncodedArrays:
    labels = np.asarray(encoded.labels, np.int64)
    return EncodedArrays(np.asarray(encoded.ids, np.uint32), labels != NO_LOSS)


def _are_equal(one: EncodedArrays, other: EncodedArrays) -> bool:
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.has_loss, other.has_loss)


def split_row(row: EncodedArrays, max_tokens: int | None) -> Sequence[EncodedArrays]:
    """Splits a row that is too long into pieces, and drops those without a token to learn.

    The first token of a row is never predicted.
    """
    size = max_tokens or max(1, len(row))
    pieces = [
        EncodedArrays(row.ids[start : start + size], row.has_loss[start : start + size])
        for start in range(0, len(row), size)
    ]
    return [piece for piece in pieces if piece.has_loss[1:].any()]
