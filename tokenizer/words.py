"""Words beyond ASCII of large texts, counted in bounded memory and kept as arrays of tokens."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codeshell_hf.text.splits import SPLITS, STARCODER

from .characters import write_bytes

HELD_WORDS = 1_000_000
ENCODED_WORDS = 2_000  # in one text
ENCODED_TEXTS = 64  # in one call, by all threads
LINE_END = "\n"  # stands in no word


@dataclass(frozen=True)
class Words:
    """Words in tokens, with a line end before the first and behind each.

    Args:
        tokens: Shape (T,), int32.
        counts: For each token, how often its word stands in the texts, shape (T,), in as few bytes as that takes.
    """

    tokens: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger]


def count_words(texts: Iterable[tuple[str, int]], *, held: int = HELD_WORDS) -> Iterator[Counter[str]]:
    """Counts the words that hold more than ASCII, cut by StarCoder's steps.

    Args:
        texts: With how often each stands.
        held: Different words in memory, after which their counts are given out and counting begins anew.

    Yields:
        Counts of words, not empty; a word may stand in several.
    """
    pattern = regex.compile(SPLITS[STARCODER].pattern)
    counts: Counter[str] = Counter()
    for text, times in texts:
        if not text.isascii():
            words = [word for word in pattern.findall(text) if not word.isascii() and not word.isspace()]
            for word in words:
                counts[word] += times
        if len(counts) >= held:
            yield counts
            counts = Counter()
    if counts:
        yield counts


def encode_words(backend: Tokenizer, counts: Counter[str]) -> Words:
    """Encodes words, many in one text, since a call for each costs more than its tokens."""
    words = list(counts)
    texts = [
        LINE_END + LINE_END.join(words[start : start + ENCODED_WORDS]) for start in range(0, len(words), ENCODED_WORDS)
    ]
    end = backend.token_to_id(write_bytes(LINE_END))
    parts: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), ENCODED_TEXTS):
        encodings = backend.encode_batch_fast(texts[start : start + ENCODED_TEXTS], add_special_tokens=False)
        parts += (np.asarray(encoding.ids, np.int32) for encoding in encodings)
    tokens = np.concatenate([*parts, np.array([end], np.int32)])
    repeats = np.array([*counts.values(), 0], np.min_scalar_type(max(counts.values())))
    return Words(tokens, repeats[np.cumsum(tokens == end) - 1])


def drop_single(words: Words) -> Words:
    """Drops the words of one token, which have no pair."""
    is_end = words.tokens == words.tokens[0]
    is_single = np.zeros(len(is_end), np.bool_)
    is_single[1:-1] = is_end[:-2] & is_end[2:]
    stays = ~is_single
    stays[1:] &= ~(is_single[:-1] & is_end[1:])
    return Words(words.tokens[stays], words.counts[stays])
