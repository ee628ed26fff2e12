"""The fastest encoder that gives the very same ids."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..tokenization_codeshell import CodeShellTokenizer

logger = logging.getLogger(__name__)

# GPT-2's words after StarCoder's splitting of digits, as one expression.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
COMPARED_DOCUMENTS = 200


def list_bytes() -> dict[str, int]:
    """The characters that byte-level BPE writes for bytes, after GPT-2's table.

    Returns:
        The byte of each of 256 characters, in the order of the bytes.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}
    return {letters[byte]: byte for byte in range(256)}


@dataclass(frozen=True)
class TiktokenEncoder:
    """tiktoken behind the interface of a tokenizer.

    Args:
        encoding: A `tiktoken.Encoding`.
    """

    encoding: Any

    def __call__(self, text: list[str], **kwargs: Any) -> dict[str, list[list[int]]]:
        """Encodes texts in which nothing is special.

        Args:
            text: The texts.
            kwargs: Ignored; what tokenizers take.

        Returns:
            `input_ids`, a list of ids for each text.
        """
        return {"input_ids": self.encoding.encode_ordinary_batch(text)}


def choose_encoder(tokenizer: CodeShellTokenizer, sample: Iterable[str]) -> tuple[Any, str]:
    """Chooses tiktoken where it is installed, can hold the vocabulary, and gives the same ids on a sample.

    Args:
        tokenizer: The tokenizer, which is what counts.
        sample: Documents to compare on; the first 200 are read.

    Returns:
        What encodes, and a line that says what was chosen and why.
    """
    try:
        encoder = make_tiktoken(tokenizer)
    except (ImportError, ValueError, KeyError) as error:
        return tokenizer, f"encodes with tokenizers: {error}"
    texts = [text for _, text in zip(range(COMPARED_DOCUMENTS), sample, strict=False)]
    if not texts:
        return tokenizer, "encodes with tokenizers: there is no document"
    expected = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    found = encoder(texts)["input_ids"]
    different = sum(one != two for one, two in zip(expected, found, strict=True))
    if different:
        return tokenizer, f"encodes with tokenizers: tiktoken differs on {different} of {len(texts)} documents"
    return encoder, f"encodes with tiktoken: the same ids on {len(texts)} documents"


class TokenizerCodec:
    """A tokenizer as fill-in-the-middle needs it: from ids to text and back, with nothing special in it.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: CodeShellTokenizer) -> None:
        self._tokenizer = tokenizer

    def decode(self, ids: list[int]) -> str:
        """The text of ids.

        Args:
            ids: Of the tokenizer.

        Returns:
            Their text.
        """
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, in which nothing is special.

        Args:
            text: Any text.

        Returns:
            Its ids.
        """
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        return ids


class TiktokenCodec:
    """The same by tiktoken, which is faster.

    Args:
        encoding: A `tiktoken.Encoding`.
    """

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def decode(self, ids: list[int]) -> str:
        """The text of ids.

        Args:
            ids: Of the tokenizer.

        Returns:
            Their text.
        """
        return str(self._encoding.decode(ids))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, in which nothing is special.

        Args:
            text: Any text.

        Returns:
            Its ids.
        """
        ids: list[int] = self._encoding.encode_ordinary(text)
        return ids


def make_codec(tokenizer: CodeShellTokenizer, sample: Iterable[str]) -> TokenizerCodec | TiktokenCodec:
    """Makes what turns ids into text and back, by the encoder that packing would choose.

    Args:
        tokenizer: The tokenizer.
        sample: Documents to compare encoders on.

    Returns:
        The codec.
    """
    encoder, _ = choose_encoder(tokenizer, sample)
    return TiktokenCodec(encoder.encoding) if isinstance(encoder, TiktokenEncoder) else TokenizerCodec(tokenizer)


def make_tiktoken(tokenizer: CodeShellTokenizer) -> TiktokenEncoder:
    """Makes a tiktoken encoding of a byte-level BPE.

    Args:
        tokenizer: Its ids must be in the order of its merges.

    Returns:
        The encoder.

    Raises:
        ImportError: If tiktoken is not installed.
        ValueError: If the vocabulary is no such BPE.
    """
    import tiktoken

    values = json.loads(tokenizer.backend_tokenizer.to_str())
    model = values["model"]
    if model["type"] != "BPE":
        raise ValueError(f"the vocabulary is {model['type']}, and tiktoken knows BPE alone")
    steps = [step["type"] for step in (values["pre_tokenizer"] or {}).get("pretokenizers", [])]
    if steps != ["Digits", "ByteLevel"]:
        raise ValueError(f"the steps before BPE are {steps}, and only Digits and ByteLevel are known")
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
