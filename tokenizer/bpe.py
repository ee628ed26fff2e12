"""Byte-level BPE behind StarCoder's steps: digits one by one, then GPT-2's words."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, trainers

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.tokenization_codeshell import CHAT_TEMPLATE, SPECIAL_TOKENS

from .vocabulary import BYTES, Vocabulary, check_size, parse_vocabulary


def train_bpe(
    texts: Iterable[str], *, vocab_size: int, max_positions: int | None = None, show_progress: bool = False
) -> CodeShellTokenizer:
    """Trains a byte-level BPE and puts CodeShell's 20 special tokens last.

    All 256 bytes are in the vocabulary, so that every text survives. The same texts in the same order give the same
    vocabulary.

    Args:
        vocab_size: All entries, bytes and special tokens included. There are fewer where the texts have no more pairs.
        max_positions: The longest input in tokens, for the tokenizer's configuration.

    Raises:
        SettingsError: If the bytes and the special tokens do not fit.
    """
    check_size(vocab_size)
    vocabulary = train_vocabulary(texts, size=vocab_size - len(SPECIAL_TOKENS), show_progress=show_progress)
    return wrap_backend(vocabulary.make_backend(SPECIAL_TOKENS), max_positions=max_positions)


def train_vocabulary(texts: Iterable[str], *, size: int, show_progress: bool = False) -> Vocabulary:
    """Trains merges until there are `size` entries, the 256 bytes included; the same texts give the same merges."""
    backend = Vocabulary(()).make_backend()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(BYTES), show_progress=show_progress)
    backend.train_from_iterator(texts, trainer)
    return parse_vocabulary(json.loads(backend.to_str()), "the trained vocabulary")


def wrap_backend(backend: Tokenizer, *, max_positions: int | None = None) -> CodeShellTokenizer:
    """Makes a CodeShell tokenizer of a trained one that has CodeShell's special tokens."""
    end_of_text = SPECIAL_TOKENS[0]
    return CodeShellTokenizer(
        tokenizer_object=backend,
        bos_token=end_of_text,
        eos_token=end_of_text,
        pad_token=end_of_text,
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **({} if max_positions is None else {"model_max_length": max_positions}),
    )
