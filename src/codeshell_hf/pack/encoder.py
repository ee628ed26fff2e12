"""The fastest encoder that gives the very same ids."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..tokenization_codeshell import CodeShellTokenizer
from .infilling import Codec
from .shards import Encoder

if TYPE_CHECKING:
    import tiktoken

# GPT-2's words after StarCoder's splitting of digits, as one expression.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
COMPARED_DOCUMENTS = 200


def list_bytes() -> dict[str, int]:
    """The byte of each of the 256 characters that byte-level BPE writes for bytes, in the order of the bytes.

    Source:
        GPT-2's table.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}
    return {letters[byte]: byte for byte in range(256)}


@dataclass(frozen=True)
class TiktokenEncoder:
    """tiktoken with the interface of a tokenizer, whose options it ignores: special tokens are plain text."""

    encoding: "tiktoken.Encoding"

    def __call__(
        self,
        text: list[str],
        *,
        add_special_tokens: bool = False,
        split_special_tokens: bool = True,
        verbose: bool = False,
    ) -> dict[str, list[list[int]]]:
        """Encodes texts."""
        return {"input_ids": self.encoding.encode_ordinary_batch(text)}


def choose_encoder(tokenizer: CodeShellTokenizer, sample: Iterable[str]) -> tuple[Encoder, str]:
    """Chooses tiktoken if it is installed, can represent the vocabulary, and gives the same ids on a sample.

    Args:
        sample: Documents to compare on; the first 200 are read.

    Returns:
        The encoder, and a line that says which it is and why.
    """
    try:
        encoder = make_tiktoken(tokenizer)
    except (ImportError, ValueError, KeyError) as error:
        return tokenizer, f"encodes with tokenizers: {error}"
    texts = [text for _, text in zip(range(COMPARED_DOCUMENTS), sample, strict=False)]
    if not texts:
        return tokenizer, "encodes with tokenizers: there is no document"
    expected = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    encoded = encoder(texts)["input_ids"]
    different = sum(one != two for one, two in zip(expected, encoded, strict=True))
    if different:
        return tokenizer, f"encodes with tokenizers: tiktoken differs on {different} of {len(texts)} documents"
    return encoder, f"encodes with tiktoken: the same ids on {len(texts)} documents"


class TokenizerCodec:
    """A tokenizer for fill-in-the-middle: from ids to text and back; special tokens are plain text."""

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
    """The same by tiktoken, which is faster."""

    def __init__(self, encoding: "tiktoken.Encoding") -> None:
        self._encoding = encoding

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        return self._encoding.decode(ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return self._encoding.encode_ordinary(text)


def make_codec(tokenizer: CodeShellTokenizer, sample: Iterable[str]) -> Codec:
    """Makes a codec of the encoder that `choose_encoder` chooses on a sample."""
    encoder, _ = choose_encoder(tokenizer, sample)
    return TiktokenCodec(encoder.encoding) if isinstance(encoder, TiktokenEncoder) else TokenizerCodec(tokenizer)


def make_tiktoken(tokenizer: CodeShellTokenizer) -> TiktokenEncoder:
    """Makes a tiktoken encoding of a byte-level BPE, whose ids must be in the order of its merges.

    Raises:
        ImportError: If tiktoken is not installed.
        ValueError: If the vocabulary is no such BPE.
    """
    import tiktoken

    values = json.loads(tokenizer.backend_tokenizer.to_str())
    model = values["model"]
    if model["type"] != "BPE":
        raise ValueError(f"the vocabulary is {model['type']}, and tiktoken supports BPE alone")
    steps = [step["type"] for step in (values["pre_tokenizer"] or {}).get("pretokenizers", [])]
    if steps != ["Digits", "ByteLevel"]:
        raise ValueError(f"the steps before BPE are {steps}, and tiktoken supports Digits and ByteLevel alone")
    letters = list_bytes()
    ranks = {bytes(letters[letter] for letter in token): index for token, index in model["vocab"].items()}
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("the vocabulary lacks some of the 256 bytes")
    order = [model["vocab"]["".join(merge) if not isinstance(merge, str) else merge.replace(" ", "")]
             for merge in model["merges"]]  # fmt: skip
    if not _is_first_seen_ascending(order):
        raise ValueError("ids are not in the order of the merges")
    return TiktokenEncoder(tiktoken.Encoding("codeshell", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}))


def _is_first_seen_ascending(ids: Sequence[int]) -> bool:
    highest = -1
    seen: set[int] = set()
    for index in ids:
        if index not in seen:
            if index < highest:
                return False
            highest = index
            seen.add(index)
    return True
