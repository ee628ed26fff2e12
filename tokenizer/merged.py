"""Adds a language to a base vocabulary: prunes the base by use, and continues BPE on texts in the new language."""

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
    """Builds a tokenizer from a pruned base and new entries.

    Args:
        samples: Those named in `merged.extend_with` give new entries; the others train the base or count its use.

    Returns:
        The tokenizer, and the number of entries by origin: bytes, from the base, new and special.
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
    """Counts how often texts use each token, by id, shape (tokens,)."""
    return count_ids(vocabulary.make_backend(), texts)


def prune(vocabulary: Vocabulary, uses: NDArray[np.int64], *, size: int, keep_first: int) -> Vocabulary:
    """Keeps the most used tokens, with all tokens that their merges need.

    If all tokens of a word are kept, the pruned vocabulary tokenizes it as before.

    Args:
        uses: Number of uses by id.
        size: Number of tokens to keep, the 256 bytes included.
        keep_first: Number of first merges that are always kept, since pruning by frequency alone, on a narrow corpus,
            makes other code worse.

    Raises:
        DataError: If `size` is less than what must be kept, or more than the base has.
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
    """Drops tokens with Chinese, Japanese or Korean characters; other text is tokenized as before.

    Tokens that the merges of others need are kept.
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
    """Drops tokens that join a space to Chinese or contain an incomplete Chinese character, and their products."""
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
    """Continues BPE on new texts, after all merges of the base.

    Args:
        vocabulary: The base.
        samples: Samples by source; each is read once, and its weight is used to rank entries.
        size: Final number of tokens, without special tokens.

    Returns:
        The base with new merges after its own: first those of single characters.

    Raises:
        DataError: If the texts are all ASCII, or too small for this many tokens.
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
        raise DataError("the texts to extend with contain no Chinese; name Chinese texts under merged.extend_with")
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
