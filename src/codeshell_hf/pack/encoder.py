"""Chooses the fastest encoder that gives the same ids as the tokenizer."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..text.tiktoken_encoder import TiktokenEncoder, make_tiktoken
from ..text.token_files import TokenArray
from ..tokenization_codeshell import CodeShellTokenizer
from .infilling import Codec
from .shard_writer import ENCODED_TOGETHER, Encoder

if TYPE_CHECKING:
    import tiktoken
    from tokenizers import Tokenizer

COMPARED_DOCUMENTS = 200


def choose_encoder(tokenizer: CodeShellTokenizer, sample: Iterable[str]) -> tuple[Encoder, str]:
    """Chooses tiktoken if it is installed, supports the vocabulary, and gives the same ids on a sample.

    Args:
        sample: Documents; the first 200 are compared.

    Returns:
        The encoder, and a line for the report with the choice and its reason.
    """
    try:
        encoder = make_tiktoken(tokenizer.backend_tokenizer)
    except (ImportError, ValueError, KeyError) as error:
        return tokenizer, f"encodes with tokenizers: {error}"
    texts = list(islice(sample, COMPARED_DOCUMENTS))
    if not texts:
        return tokenizer, "encodes with tokenizers: there is no document"
    expected = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    encoded = encoder(texts)["input_ids"]
    different = sum(one != two.tolist() for one, two in zip(expected, encoded, strict=True))
    if different:
        return tokenizer, f"encodes with tokenizers: tiktoken differs on {different} of {len(texts)} documents"
    return encoder, f"encodes with tiktoken: the same ids on {len(texts)} documents"


class TokenizerCodec:
    """Encodes and decodes for fill-in-the-middle with the tokenizer; special tokens are ordinary text."""

    def __init__(self, tokenizer: CodeShellTokenizer) -> None:
        self._tokenizer = tokenizer

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        return ids


class TiktokenCodec:
    """The same with tiktoken, which is faster."""

    def __init__(self, encoding: "tiktoken.Encoding") -> None:
        self._encoding = encoding

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        return self._encoding.decode(ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return self._encoding.encode_ordinary(text)


def make_codec(tokenizer: CodeShellTokenizer, sample: Iterable[str]) -> Codec:
    """Makes a codec from the encoder that `choose_encoder` chooses."""
    encoder, _ = choose_encoder(tokenizer, sample)
    return TiktokenCodec(encoder.encoding) if isinstance(encoder, TiktokenEncoder) else TokenizerCodec(tokenizer)


def count_ids(backend: "Tokenizer", texts: Iterable[str]) -> NDArray[np.int64]:
    """Counts how often texts use each id, shape (entries,); special tokens are encoded as ordinary text.

    Uses tiktoken if it gives the same ids on the first texts.
    """
    uses = np.zeros(backend.get_vocab_size(), np.int64)
    rows = iter(texts)
    encode: Callable[[list[str]], Iterable[TokenArray | Sequence[int]]] | None = None
    while batch := list(islice(rows, ENCODED_TOGETHER)):
        encode = encode or _choose_encode(backend, batch[:COMPARED_DOCUMENTS])
        for ids in encode(batch):
            uses += np.bincount(np.asarray(ids, np.int64), minlength=len(uses))
    return uses


def _choose_encode(
    backend: "Tokenizer", sample: list[str]
) -> Callable[[list[str]], Iterable[TokenArray | Sequence[int]]]:
    def encode_slowly(texts: list[str]) -> list[Sequence[int]]:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    try:
        encoder = make_tiktoken(backend)
    except (ImportError, ValueError, KeyError):
        return encode_slowly

    def encode(texts: list[str]) -> list[NDArray[np.uint32]]:
        return encoder(texts)["input_ids"]

    is_same = [ids.tolist() for ids in encode(sample)] == encode_slowly(sample)
    return encode if is_same else encode_slowly
