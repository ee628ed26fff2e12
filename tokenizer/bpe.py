"""Trains byte-level BPE with a pre-tokenizer of `codeshell_hf.text.pre_tokenizers`, within words or across them."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.text.pre_tokenizers import ACROSS_WORDS, STARCODER, SplitName, make_pre_tokenizer
from codeshell_hf.tokenization_codeshell import CHAT_TEMPLATE, PADDING, SPECIAL_TOKENS

from .vocabulary import BYTES, Merge, Vocabulary, check_size, parse_vocabulary

ENCODED_TOGETHER = 512
FIRST_PRIVATE = 0xF0000  # private planes 15 and 16: one character per entry of the first stage
MAX_JOINED = 4  # entries of the first stage that an entry across words may join


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    split: SplitName = STARCODER,
    max_positions: int | None = None,
    show_progress: bool = False,
) -> CodeShellTokenizer:
    """Trains a byte-level BPE; CodeShell's 20 special tokens come last.

    All 256 bytes are in the vocabulary, so encoding is lossless. The same texts in the same order give the same
    vocabulary.

    Args:
        vocab_size: All entries, bytes and special tokens included; there are fewer if the texts have no more pairs.
        split: Pre-tokenizer, whose boundaries no entry crosses.
        max_positions: The longest input in tokens, for the tokenizer's configuration.

    Raises:
        SettingsError: If the bytes and the special tokens do not fit.
    """
    check_size(vocab_size)
    vocabulary = train_vocabulary(
        texts, size=vocab_size - len(SPECIAL_TOKENS), split=split, show_progress=show_progress
    )
    return wrap_backend(_make_backend(vocabulary, split), max_positions=max_positions)


def train_across_words(
    read: Callable[[str], Iterable[str]],
    *,
    vocab_size: int,
    across: int,
    split: SplitName,
    max_positions: int | None = None,
    show_progress: bool = False,
) -> CodeShellTokenizer:
    """Trains a BPE in two stages: entries within words first, then entries that may join words.

    Args:
        read: Yields the texts; called with the name of a stage.
        vocab_size: As for `train_bpe`.
        across: Number of entries from the second stage.
        split: Pre-tokenizer of the first stage.
        max_positions: As for `train_bpe`.

    Raises:
        SettingsError: If the bytes and the special tokens do not fit.
        DataError: If the texts give too few entries.

    Source:
        SuperBPE, Liu et al. 2025, arXiv:2503.13423, with single digits; an entry joins at most four entries of the
        first stage, in the paper four words.
    """
    check_size(vocab_size - across)
    size = vocab_size - len(SPECIAL_TOKENS)
    words = train_vocabulary(read("within words"), size=size - across, split=split, show_progress=show_progress)
    joined = join_words(words, read("across words"), size=size, show_progress=show_progress)
    return wrap_backend(_make_backend(joined, ACROSS_WORDS), max_positions=max_positions)


def train_vocabulary(
    texts: Iterable[str], *, size: int, split: SplitName = STARCODER, show_progress: bool = False
) -> Vocabulary:
    """Trains merges up to `size` entries, the 256 bytes included; the same texts give the same merges."""
    backend = _make_backend(Vocabulary(()), split, special_tokens=())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(BYTES), show_progress=show_progress)
    backend.train_from_iterator(texts, trainer)
    return parse_vocabulary(json.loads(backend.to_str()), "the trained vocabulary")


def join_words(vocabulary: Vocabulary, texts: Iterable[str], *, size: int, show_progress: bool = False) -> Vocabulary:
    """Continues a vocabulary across word boundaries.

    Args:
        vocabulary: The first stage's.
        texts: Texts; they are first encoded with `vocabulary`, whose merges may cross words, as in the result.
        size: Final number of entries, without special tokens.

    Raises:
        DataError: If the texts give too few entries.
    """
    wanted = size - len(vocabulary)
    alphabet = [chr(FIRST_PRIVATE + index) for index in range(len(vocabulary))]
    trainer = trainers.BpeTrainer(
        vocab_size=size + wanted,  # different merges may make the same entry, which counts once
        initial_alphabet=alphabet,
        max_token_length=MAX_JOINED + 1,  # entries are shorter than this
        show_progress=show_progress,
    )
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator(_write_entries(vocabulary, texts), trainer)

    def show(operand: str) -> str:
        return "".join(vocabulary.tokens[ord(letter) - FIRST_PRIVATE] for letter in operand)

    new: list[Merge] = []
    entries = set(vocabulary.tokens)
    for left, right in json.loads(trained.to_str())["model"]["merges"]:
        new.append((show(left), show(right)))
        entries.add("".join(new[-1]))
        if len(entries) == size:
            return Vocabulary((*vocabulary.merges, *new))
    raise DataError(
        f"the texts give {len(entries) - len(vocabulary)} entries across words of {wanted}; "
        "give more texts or lower bpe.across_words"
    )


def _write_entries(vocabulary: Vocabulary, texts: Iterable[str]) -> Iterator[str]:
    """Maps each token of a text to a private-use character, with a space at each boundary of the pre-tokenizer."""
    backend = _make_backend(vocabulary, ACROSS_WORDS, special_tokens=())
    rows = iter(texts)
    while batch := list(islice(rows, ENCODED_TOGETHER)):
        for encoding in backend.encode_batch(batch, add_special_tokens=False):
            ids, pieces = np.asarray(encoding.ids, np.int64), np.asarray(encoding.word_ids, np.int64)
            letters = np.insert(ids + FIRST_PRIVATE, np.flatnonzero(pieces[1:] != pieces[:-1]) + 1, ord(" "))
            yield letters.astype("<u4").tobytes().decode("utf-32-le")


def _make_backend(vocabulary: Vocabulary, split: str, special_tokens: Iterable[str] = SPECIAL_TOKENS) -> Tokenizer:
    backend = vocabulary.make_backend(list(special_tokens))
    backend.pre_tokenizer = make_pre_tokenizer(split)
    return backend


def wrap_backend(backend: Tokenizer, *, max_positions: int | None = None) -> CodeShellTokenizer:
    """Wraps a trained tokenizer, which has CodeShell's special tokens, as a `CodeShellTokenizer`."""
    end_of_text = SPECIAL_TOKENS[0]
    return CodeShellTokenizer(
        tokenizer_object=backend,
        bos_token=end_of_text,
        eos_token=end_of_text,
        pad_token=PADDING,
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **({} if max_positions is None else {"model_max_length": max_positions}),
    )
