"""Measures of a vocabulary: characters covered, entries used on unseen text, and sources per entry."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from .characters import CHINESE_PUNCTUATION, LEVEL_TWO_ROWS, is_chinese, list_level_one, list_rows
from .corpus import Sample
from .words import count_words, encode_words

MAX_LISTED = 10
SCRIPTS = {
    "GB/T 2312 level 1": "".join(list_level_one()),
    "GB/T 2312 level 2": "".join(list_rows(*LEVEL_TWO_ROWS)),
    "Chinese punctuation": CHINESE_PUNCTUATION,
    "kana": "".join(map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB)))),
    "Latin letters with marks": "".join(chr(code) for code in range(0xC0, 0x180) if code not in (0xD7, 0xF7)),
    "Greek": "".join(chr(code) for code in range(0x391, 0x3CA) if code != 0x3A2),
    "Cyrillic": "".join(map(chr, range(0x410, 0x450))),
}


def measure_coverage(tokenizer: Tokenizer) -> dict[str, float]:
    """Measures the share of each script's characters, 0 to 1, that are one token."""
    shares = {}
    for name, characters in SCRIPTS.items():
        encodings = tokenizer.encode_batch(list(characters), add_special_tokens=False)
        shares[name] = round(sum(len(encoding.ids) == 1 for encoding in encodings) / len(characters), 4)
    return shares


def measure_use(tokenizer: Tokenizer, used: Iterable[int], base: Tokenizer | None = None) -> dict[str, float]:
    """Measures the share of entries, 0 to 1, that texts use: of all, of those with Chinese, and of those new to a base.

    Args:
        used: Ids in the encoded texts.
    """
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    entries = {index: token for token, index in tokenizer.get_vocab().items() if token not in special}
    groups = {
        "all": set(entries),
        "Chinese": {index for index, text in read_entries(tokenizer).items() if any(map(is_chinese, text))},
    }
    if base is not None:
        old = set(base.get_vocab())
        groups["not of the base"] = {index for index, token in entries.items() if token not in old}
    return {name: round(len(group & set(used)) / len(group), 4) for name, group in groups.items() if group}


def list_longest(tokenizer: Tokenizer) -> list[str]:
    """Lists the longest entries with non-ASCII letters, the longest first."""
    texts = (text for text in read_entries(tokenizer).values() if not text.isascii() and any(map(str.isalpha, text)))
    return sorted(texts, key=lambda text: (-len(text), text))[:MAX_LISTED]


def read_entries(tokenizer: Tokenizer) -> dict[int, str]:
    """Reads the text of each entry by id, without special tokens and without incomplete characters."""
    special = set(tokenizer.get_added_tokens_decoder())
    ids = [index for index in tokenizer.get_vocab().values() if index not in special]
    texts = tokenizer.decode_batch([[index] for index in ids], skip_special_tokens=False)
    return {index: text.replace("\ufffd", "") for index, text in zip(ids, texts, strict=True)}


def measure_parity(counts: Mapping[str, int], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Measures tokenization parity: tokens of the first corpus per token of the second, which has the same content.

    Args:
        counts: Tokens by corpus.

    Source:
        Petrov et al. 2023, arXiv:2305.15425, section 3.
    """
    return {f"{one}/{two}": round(counts[one] / max(counts[two], 1), 4) for one, two in pairs}


def count_sources(tokenizer: Tokenizer, samples: Mapping[str, Sample], *, first: int) -> dict[str, int]:
    """Counts entries by the number of sources that use them.

    Args:
        first: Id of the first entry that is counted; special tokens are not.

    Returns:
        Number of entries by number of sources, from "0" up.
    """
    special = tokenizer.get_added_tokens_decoder()
    held = np.zeros(tokenizer.get_vocab_size(), np.int64)
    for one in samples.values():
        uses = np.zeros(len(held), np.bool_)
        for counts in count_words(one.read_counted()):
            uses[encode_words(tokenizer, counts).tokens] = True
        held += uses
    numbers = np.bincount([held[index] for index in range(first, len(held)) if index not in special], minlength=1)
    return {str(number): int(count) for number, count in enumerate(numbers)}
