"""Counts non-ASCII words of large texts in bounded memory, and encodes them as arrays of tokens."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codeshell_hf.text.pre_tokenizers import SPLITS, STARCODER

from .characters import write_bytes

MAX_HELD_WORDS = 500_000
ENCODED_WORDS = 2_000  # joined into one text
ENCODED_TEXTS = 64  # per call, by all threads
LINE_END = "\n"  # occurs in no word


@dataclass(frozen=True)
class Words:
    """Tokens of words, with a line end before the first and after each.

    Args:
        tokens: Shape (T,), int32.
        counts: For each token, how often its word occurs in the texts, shape (T,), in the smallest dtype that fits.
    """

    tokens: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger]


def count_words(texts: Iterable[tuple[str, int]], *, held: int = MAX_HELD_WORDS) -> Iterator[Counter[str]]:
    """Counts the words that are not ASCII, split by StarCoder's pre-tokenizer.

    Args:
        texts: Texts with their counts.
        held: Maximum of different words in memory; when it is reached, their counts are yielded and counting restarts.

    Yields:
        Counts of words, not empty; a word may be in several.
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
    """Encodes words, many in one text, since a call per word would be slow."""
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
    """Drops words of a single token, which have no pair to merge."""
    is_end = words.tokens == words.tokens[0]
    is_single = np.zeros(len(is_end), np.bool_)
    is_single[1:-1] = is_end[:-2] & is_end[2:]
    stays = ~is_single
    stays[1:] &= ~(is_single[:-1] & is_end[1:])
    return Words(words.tokens[stays], words.counts[stays])
