"""Merges a language into a base vocabulary: prune the base by use, continue it on the new texts, put ids in order."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS

from .bpe import train_vocabulary, wrap_backend
from .corpus import Sample, chain_all
from .settings import Merged, NewMerges
from .vocabulary import BYTES, Merge, Vocabulary, check_size, find_base, read_vocabulary, to_bytes

ENCODED_TOGETHER = 512
LONGEST_PRODUCT = 24  # in tokens of the base
FIRST_PRIVATE = 0xF0000  # planes 15 and 16: one character for each token of the base
CJK = (("\u2e80", "\u9fff"), ("\uac00", "\ud7af"), ("\uf900", "\ufaff"), ("\ufe30", "\ufe4f"), ("\uff00", "\uffef"))


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
        uses = count_uses(base, chain_all(old, step="count uses"))
        kept = prune(base, uses, size=merged.base_size or vocab_size, keep_first=merged.keep_first)
    extended = extend(
        kept,
        chain_all(new, step="extend"),
        size=vocab_size - len(SPECIAL_TOKENS),
        new_merges=merged.new_merges,
        show_progress=True,
    )
    origins = {
        "bytes": len(BYTES),
        "from_base": len(kept) - len(BYTES),
        "new": len(extended) - len(kept),
        "special": len(SPECIAL_TOKENS),
    }
    return wrap_backend(extended.make_backend(SPECIAL_TOKENS), max_positions=max_positions), origins


def count_uses(vocabulary: Vocabulary, texts: Iterable[str]) -> NDArray[np.int64]:
    """Counts how often each token is used, by id, shape (tokens,)."""
    backend = vocabulary.make_backend()
    uses = np.zeros(len(vocabulary), np.int64)
    for batch in _batches(texts):
        for encoding in backend.encode_batch(batch, add_special_tokens=False):
            uses += np.bincount(encoding.ids, minlength=len(uses))
    return uses


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


def has_chinese(token: str) -> bool:
    """Whether a token, in byte-level characters, holds a whole character of Chinese, Japanese or Korean."""
    text = to_bytes(token).decode("utf-8", errors="ignore")
    return any(first <= letter <= last for letter in text for first, last in CJK)


def extend(
    vocabulary: Vocabulary,
    texts: Iterable[str],
    *,
    size: int,
    new_merges: NewMerges = "beyond-ascii",
    show_progress: bool = False,
) -> Vocabulary:
    """Continues BPE on new texts, behind all merges of the base.

    Args:
        vocabulary: The base.
        size: How many tokens there are at the end, without special tokens.
        new_merges: "beyond-ascii": each holds a byte beyond ASCII, so that text in ASCII is cut exactly as before;
            "chinese": each holds a byte that begins a Chinese character, so that English typography is cut as before
            too, at 3 to 5 % fewer characters a token on Chinese.

    Returns:
        The base with the new merges behind its own.

    Raises:
        DataError: If the texts hold nothing beyond ASCII, or too little for so many tokens.
    """
    wanted = size - len(vocabulary)
    if wanted <= 0:
        raise DataError(f"the base has {len(vocabulary)} entries of {size}; lower base_size or raise vocab_size")
    alphabet = [chr(FIRST_PRIVATE + index) for index in range(len(vocabulary))]
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + wanted,
        initial_alphabet=alphabet,
        min_frequency=2,
        max_token_length=LONGEST_PRODUCT,
        show_progress=show_progress,
    )
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    leads = range(0x80, 0x100) if new_merges == "beyond-ascii" else range(0xE3, 0xEA)
    old = np.array([not any(byte in leads for byte in to_bytes(token)) for token in vocabulary.tokens])
    trained.train_from_iterator(_hide_tokens(vocabulary, texts, old), trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]

    def show(operand: str) -> str:
        return "".join(vocabulary.tokens[ord(letter) - FIRST_PRIVATE] for letter in operand)

    new: list[Merge] = []
    tokens = set(vocabulary.tokens)
    for left, right in merges:
        merge = (show(left), show(right))
        new.append(merge)
        tokens.add(merge[0] + merge[1])
    if not new:
        raise DataError("the texts to extend with hold no Chinese; name Chinese texts under merged.extend_with")
    if len(tokens) < size:
        raise DataError(
            f"the texts to extend with give {len(tokens) - len(vocabulary)} new entries of {wanted}; "
            "name more of them or lower vocab_size"
        )
    return _truncate(Vocabulary((*vocabulary.merges, *new)), size)


def _hide_tokens(vocabulary: Vocabulary, texts: Iterable[str], old: NDArray[np.bool_]) -> Iterator[str]:
    """Writes each token as one private character; a space between two that must not merge."""
    backend = vocabulary.make_backend()
    for batch in _batches(texts):
        for encoding in backend.encode_batch(batch, add_special_tokens=False):
            ids = np.asarray(encoding.ids, np.int64)
            if len(ids) < 2 or old[ids].all():
                continue
            words = np.asarray(encoding.word_ids, np.int64)
            is_cut = (words[1:] != words[:-1]) | (old[ids[1:]] & old[ids[:-1]])
            places = np.arange(len(ids)) + np.concatenate(([0], np.cumsum(is_cut)))
            letters = np.full(int(places[-1]) + 1, ord(" "), np.uint32)
            letters[places] = ids + FIRST_PRIVATE
            yield letters.astype("<u4").tobytes().decode("utf-32-le")


def _truncate(vocabulary: Vocabulary, size: int) -> Vocabulary:
    # A merge may give what another one gave already: entries are counted, not merges.
    tokens = set(BYTES)
    for number, (left, right) in enumerate(vocabulary.merges):
        tokens.add(left + right)
        if len(tokens) == size:
            return Vocabulary(vocabulary.merges[: number + 1])
    return vocabulary


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


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rows = iter(texts)
    while batch := list(islice(rows, ENCODED_TOGETHER)):
        yield batch
