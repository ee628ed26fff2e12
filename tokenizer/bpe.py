"""Byte-level BPE behind StarCoder's steps: digits one by one, then GPT-2's words."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import SettingsError
from codeshell_hf.tokenization_codeshell import CHAT_TEMPLATE, SPECIAL_TOKENS

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def train_bpe(
    texts: Iterable[str], *, vocab_size: int, max_positions: int | None = None, show_progress: bool = False
) -> CodeShellTokenizer:
    """Trains a byte-level BPE and puts CodeShell's 20 special tokens last.

    All 256 bytes are in the vocabulary, so no text is ever lost. The same texts in the same order give the same
    vocabulary.

    Args:
        texts: What to count on, read once.
        vocab_size: All entries, bytes and special tokens included. Fewer come out where the texts have no more pairs.
        max_positions: What the tokenizer names as the longest input, in tokens; `None` for no limit.
        show_progress: Whether to draw a bar.

    Returns:
        The tokenizer, with fill-in-the-middle and the chat format.

    Raises:
        SettingsError: If the bytes and the special tokens do not fit.
    """
    smallest = len(BYTES) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise SettingsError(
            f"vocab_size is {vocab_size}, but {len(BYTES)} bytes and {len(SPECIAL_TOKENS)} special tokens must fit; "
            f"set tokenizer.vocab_size to {smallest} or more"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS), initial_alphabet=BYTES, show_progress=show_progress
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return wrap_backend(backend, max_positions=max_positions)


def wrap_backend(backend: Tokenizer, *, max_positions: int | None = None) -> CodeShellTokenizer:
    """Makes a CodeShell tokenizer of a trained one.

    Args:
        backend: Has CodeShell's special tokens.
        max_positions: Longest input in tokens, or `None`.

    Returns:
        The tokenizer, ready to be saved.
    """
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
