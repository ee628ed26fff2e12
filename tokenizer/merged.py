"""Merges a language into a base vocabulary: prune the base by use, continue it on the new texts, put ids in order."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.pack.encoder import count_ids
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS

from .bpe import train_vocabulary, wrap_backend
from .characters import CHINESE_PUNCTUATION, has_chinese, list_characters, list_level_one, spell
from .continuation import WordSource, continue_merges
from .corpus import Sample, chain_all
from .settings import Continuation, Merged
from .vocabulary import BYTES, Merge, Vocabulary, check_size, find_base, read_vocabulary, to_bytes
from .words import count_words, encode_words


def train_merged(
    samples: Mapping[str, Sample], merged: Merged, *, vocab_size: int, max_positions: int | None
) -> tuple[CodeShellTokenizer, dict[str, int]]:
    """Builds a tokenizer of a base and its continuation.

    Args:
        samples: Those that `merged.extend_with` names continue the base; the others train it or count its uses.

    Returns:
        The tokenizer, and how many of its entries are bytes, from the base, new and special.
    """
    check_size(vocab_size)
    old = {name: one for name, one in samples.items() if name not in merged.extend_with}
    new = {name: one for name, one in samples.items() if name in merged.extend_with}
    if merged.base is not None:
        base = read_vocabulary(find_base(merged.base))
    else:
        texts = chain_all(old, step="train base")
        base = train_vocabulary(texts, size=merged.trained_size or vocab_size, show_progress=True)
    if merged.keeps == "all-but-chinese":
        kept = drop_chinese(base)
    else:
        base = drop_unfit(base)
        uses = count_uses(base, chain_all(old, step="count uses"))
        kept = prune(base, uses, size=merged.base_size or vocab_size, keep_first=merged.keep_first)
    size = vocab_size - len(SPECIAL_TOKENS)
    extended = extend(kept, new, merged.continuation, size=size, show_progress=True)
    origins = {
        "bytes": len(BYTES),
        "from_base": len(kept) - len(BYTES),
        "new": len(extended) - len(kept),
        "special": len(SPECIAL_TOKENS),
    }
    return wrap_backend(extended.make_backend(SPECIAL_TOKENS), max_positions=max_positions), origins


def count_uses(vocabulary: Vocabulary, texts: Iterable[str]) -> NDArray[np.int64]:
    """Counts how often each token is used, by id, shape (tokens,)."""
    return count_ids(vocabulary.make_backend(), texts)


def prune(vocabulary: Vocabulary, uses: NDArray[np.int64], *, size: int, keep_first: int) -> Vocabulary:
    """Keeps the tokens that are used most, with all that their merges need.

    A word that the whole vocabulary cuts into kept tokens is cut alike by the pruned one.

    Args:
        uses: Of each token, by id.
        size: How many tokens stay, the 256 bytes included.
        keep_first: How many of the first merges stay however rare they are: frequency on a narrow corpus alone makes
            other code worse.

    Raises:
        DataError: If the size is smaller than what must stay, or larger than the base.
    """
    if not len(BYTES) + keep_first <= size <= len(vocabulary):
        raise DataError(
            f"base_size is {size}; it must lie between {len(BYTES) + keep_first} (bytes and keep_first) and the "
            f"{len(vocabulary)} entries of the base"
        )
    made_by: dict[str, Merge] = {}
    for left, right in vocabulary.merges:
        made_by.setdefault(left + right, (left, right))
    kept = {*BYTES, *(left + right for left, right in vocabulary.merges[:keep_first])}
    ranked = sorted(range(len(vocabulary)), key=lambda token: (-uses[token], token))
    for index in ranked:
        needed = _close(vocabulary.tokens[index], made_by, kept)
        if len(kept) + len(needed) <= size:
            kept |= needed
        if len(kept) == size:
            break
    return _select(vocabulary, kept)


def drop_chinese(vocabulary: Vocabulary) -> Vocabulary:
    """Drops the tokens with Chinese, Japanese or Korean characters, so that other text is cut as before.

    Tokens that the merges of others need stay.
    """
    made_by: dict[str, Merge] = {}
    for left, right in vocabulary.merges:
        made_by.setdefault(left + right, (left, right))
    kept = set(BYTES)
    for token in vocabulary.tokens:
        if not has_chinese(token):
            kept |= _close(token, made_by, kept)
    return _select(vocabulary, kept)


def drop_unfit(vocabulary: Vocabulary) -> Vocabulary:
    """Drops the tokens that join a space to Chinese or hold half a character of it, and all that are made of them."""
    made, merges = set(BYTES), []
    for left, right in vocabulary.merges:
        if left in made and right in made and _is_fit(left + right):
            made.add(left + right)
            merges.append((left, right))
    return Vocabulary(tuple(merges))


def _is_fit(token: str) -> bool:
    if not has_chinese(token):
        return True
    try:
        return not to_bytes(token).decode("utf-8")[0].isspace()
    except UnicodeDecodeError:
        return False


def extend(
    vocabulary: Vocabulary,
    samples: Mapping[str, Sample],
    continuation: Continuation,
    *,
    size: int,
    show_progress: bool = False,
) -> Vocabulary:
    """Continues BPE on new texts, behind all merges of the base.

    Args:
        vocabulary: The base.
        samples: Each is read once; their weights are those of the mean that ranks entries.
        size: How many tokens there are at the end, without special tokens.

    Returns:
        The base with the new merges behind its own: those of single characters first.

    Raises:
        DataError: If the texts hold nothing beyond ASCII, or too little for so many tokens.
    """
    wanted = size - len(vocabulary)
    if wanted <= 0:
        raise DataError(f"the base has {len(vocabulary)} entries of {size}; lower base_size or raise vocab_size")
    spelled = spell(vocabulary, list_characters())
    spellings = dict.fromkeys(merge for merges in spelled.values() for merge in merges)
    working = Vocabulary((*vocabulary.merges, *spellings))
    backend = working.make_backend()
    sources = []
    with tqdm(desc="count words", unit="word", unit_scale=True, disable=not show_progress) as bar:
        for name, one in samples.items():
            bar.set_postfix_str(name)
            parts = []
            for counts in count_words(one.read_counted()):
                parts.append(encode_words(backend, counts))
                bar.update(len(counts))
            if parts:
                sources.append(WordSource(one.weight, parts))
    if not sources:
        raise DataError("the texts to extend with hold no Chinese; name Chinese texts under merged.extend_with")
    floor = (*list_level_one(), *CHINESE_PUNCTUATION) if continuation.floor == "chinese" else ()
    extended = continue_merges(
        vocabulary, working, spelled, sources, continuation, size=size, floor=floor, show_progress=show_progress
    )
    if len(extended) < size:
        raise DataError(
            f"the texts to extend with give {len(extended) - len(vocabulary)} new entries of {wanted}; "
            "name more of them or lower vocab_size"
        )
    return extended


def _close(token: str, made_by: dict[str, Merge], kept: set[str]) -> set[str]:
    needed: set[str] = set()
    waiting = [token]
    while waiting:
        found = waiting.pop()
        if found not in kept and found not in needed:
            needed.add(found)
            waiting += made_by[found]
    return needed


def _select(vocabulary: Vocabulary, kept: set[str]) -> Vocabulary:
    return Vocabulary(tuple(merge for merge in vocabulary.merges if {merge[0], merge[1], merge[0] + merge[1]} <= kept))
