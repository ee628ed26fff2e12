"""The text of a row as its tokens come: whole characters, up to a stop, with the tokens that make them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ..text.stream import StopFilter
from ..tokenization_codeshell import END_OF_TURN
from .sampling import ChosenToken

RowEnd = Literal["stop", "length"]
_LONGEST_CHARACTER = 4  # in bytes, and so in tokens
_CUT_END = 2  # characters of an end of turn that are taken for one
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class PieceToken:
    """A token in a piece of text; `text` may be empty where a character ends in a later one."""

    chosen: ChosenToken
    text: str


@dataclass(frozen=True)
class TextPiece:
    """New text of a row.

    Args:
        text: Without a stop, and without what may be the start of one.
        tokens: Those whose text is complete with this piece.
        end: Why the row ended, in its last piece.
        stop: The stop text that ended it, if one did.
        error: What went wrong, in the last piece.
        written: Tokens that the row has, in the last piece; with an end token and those of a stop.
    """

    text: str
    tokens: tuple[PieceToken, ...] = ()
    end: RowEnd | None = None
    stop: str | None = None
    error: str | None = None
    written: int = 0


class TokenDecoder:
    """Decodes tokens one at a time into whole characters; special tokens have no text.

    A token is decoded behind the ones before it, since some tokenizers write a space only between two.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []
        self._waiting: list[int] = []

    def take(self, token: int) -> str:
        """Takes a token; returns the characters that are complete with it."""
        self._waiting.append(token)
        text = self._decode(self._waiting)
        if not text.endswith(_REPLACEMENT):
            return self._flush(len(self._waiting), text)
        if len(self._waiting) <= _LONGEST_CHARACTER:
            return ""
        # More bytes than a character has: some are of none. All but the last ones that may begin one are passed on.
        for length in range(len(self._waiting) - 1, 0, -1):
            text = self._decode(self._waiting[:length])
            if length == 1 or not text.endswith(_REPLACEMENT):
                return self._flush(length, text)
        return ""

    def end(self) -> str:
        """The rest, in which an incomplete character is a replacement character."""
        return self._flush(len(self._waiting), self._decode(self._waiting)) if self._waiting else ""

    def _decode(self, ids: Sequence[int]) -> str:
        before = self._read(self._before)
        return self._read([*self._before, *ids])[len(before) :]

    def _read(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True) if ids else ""
        return text

    def _flush(self, length: int, text: str) -> str:
        if text:
            self._before = self._waiting[:length]
        self._waiting = self._waiting[length:]
        return text


class RowText:
    """Turns a row's tokens into pieces of text up to a stop."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._decoder = TokenDecoder(tokenizer)
        self._shown: list[str] = []
        self._filter = StopFilter(stops, self._shown.append)
        self._decoded = 0
        self._released = 0
        # Tokens with the place where their text ends, until it is released.
        self._held: deque[tuple[PieceToken, int]] = deque()

    def take(self, chosen: ChosenToken) -> TextPiece:
        """Takes a token; the piece has an end if its text completes a stop."""
        return self._add(self._decoder.take(chosen.id), chosen)

    def end(self, end: RowEnd) -> TextPiece:
        """The rest of the text; no token follows."""
        rest = self._add(self._decoder.end(), None)
        if rest.end is not None:
            return rest
        # An end of turn that the limit cut off is not text.
        if not (len(self._filter.held) >= _CUT_END and END_OF_TURN.startswith(self._filter.held)):
            self._filter.end()
        text, tokens = self._release()
        return TextPiece(rest.text + text, (*rest.tokens, *tokens), end)

    def _add(self, text: str, chosen: ChosenToken | None) -> TextPiece:
        self._decoded += len(text)
        if chosen is not None:
            self._held.append((PieceToken(chosen, text), self._decoded))
        self._filter.feed(text)
        shown, tokens = self._release()
        if self._filter.is_stopped:
            return TextPiece(shown, tokens, "stop", self._filter.stopped_at)
        return TextPiece(shown, tokens)

    def _release(self) -> tuple[str, tuple[PieceToken, ...]]:
        text = "".join(self._shown)
        self._shown.clear()
        self._released += len(text)
        tokens = []
        while self._held and self._held[0][1] <= self._released:
            tokens.append(self._held.popleft()[0])
        return text, tuple(tokens)
