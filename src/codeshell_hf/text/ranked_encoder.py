"""tiktoken for vocabularies whose ids are not in the order of their merges, as that of the released models."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .pre_tokenizers import SPLITS, name_split
from .tiktoken_encoder import list_bytes

if TYPE_CHECKING:
    import tiktoken
    from tokenizers import Tokenizer

Merge = tuple[str, str]


@dataclass(frozen=True)
class RankedEncoder:
    """Encodes texts to the ids of a tokenizer, special tokens as ordinary text.

    tiktoken joins any two neighbours that make a token, a tokenizer only those that its merges list. Texts for which
    that may differ are not encoded.

    Args:
        encoding: Its ids are the order of merges.
        ids: The vocabulary's id of each rank.
        widths: Bytes of each rank.
        is_doubtful: Whether a rank's token comes about in another way, or not at all, by the listed merges.
        dropped: Characters with a byte that the vocabulary lacks, which a tokenizer leaves out; `None` without any.
    """

    encoding: "tiktoken.Encoding"
    ids: NDArray[np.uint32]
    widths: NDArray[np.int64]
    is_doubtful: NDArray[np.bool_]
    dropped: re.Pattern[str] | None

    def encode(self, text: str) -> tuple[NDArray[np.uint32], NDArray[np.int64]] | None:
        """The ids of a text and where each ends, in bytes of UTF-8; `None` if the tokenizer may give others."""
        if self.dropped is not None and self.dropped.search(text):
            return None
        ranks = self.encoding.encode_to_numpy(text, disallowed_special=())
        if self.is_doubtful[ranks].any():
            return None
        return self.ids[ranks], np.cumsum(self.widths[ranks])


def make_ranked_encoder(backend: "Tokenizer") -> RankedEncoder:
    """Makes the encoder of a byte-level BPE.

    Raises:
        ImportError: If tiktoken is not installed.
        ValueError: If the vocabulary is of another kind.
    """
    import tiktoken

    values = json.loads(backend.to_str())
    model = values["model"]
    split = name_split(values["pre_tokenizer"])
    if model["type"] != "BPE" or split is None or values["normalizer"] is not None:
        raise ValueError("the vocabulary is not a byte-level BPE with a known split and without normalisation")
    letters = list_bytes()
    vocabulary: Mapping[str, int] = model["vocab"]
    merges: list[Merge] = [
        (merge.split(" ")[0], merge.split(" ")[1]) if isinstance(merge, str) else (merge[0], merge[1])
        for merge in model["merges"]
    ]
    tokens = list(letters) + list(dict.fromkeys(first + second for first, second in merges))
    if len(tokens) != len(set(tokens)):
        raise ValueError("a merge makes a single byte")
    places = {merge: place for place, merge in reversed(list(enumerate(merges)))}
    ranks = {bytes(letters[letter] for letter in token): rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        "codeshell", pat_str=SPLITS[split].pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(tokens)}
    )
    return RankedEncoder(
        encoding,
        np.array([vocabulary.get(token, 0) for token in tokens], np.uint32),
        np.array([len(token) for token in tokens], np.int64),
        np.array([len(token) > 1 and _merge(token, places) != [token] for token in tokens], np.bool_),
        _match_bytes([byte for letter, byte in letters.items() if letter not in vocabulary]),
    )


def _merge(token: str, places: Mapping[Merge, int]) -> Sequence[str]:
    """Joins a token's letters by the listed merges, the earliest first."""
    parts = list(token)
    while len(parts) > 1:
        pairs = [places.get(pair, len(places)) for pair in pairwise(parts)]
        best = min(pairs)
        if best == len(places):
            break
        where = pairs.index(best)
        parts[where : where + 2] = [parts[where] + parts[where + 1]]
    return parts


def _match_bytes(missing: Sequence[int]) -> re.Pattern[str] | None:
    """Matches the characters with one of these bytes in UTF-8.

    Raises:
        ValueError: If a byte within characters is missing, which is one of any language.
    """
    if any(0x80 <= byte < 0xC0 for byte in missing):
        raise ValueError("the vocabulary lacks bytes that continue characters")
    classes = [re.escape(chr(byte)) for byte in missing if byte < 0x80]
    # Two bytes begin with 0xc2 to 0xdf, three with 0xe0 to 0xef, four with 0xf0 to 0xf4; no text has the others.
    classes += [
        f"{chr((byte & 0x1F) << 6)}-{chr((byte & 0x1F) << 6 | 0x3F)}" for byte in missing if 0xC2 <= byte < 0xE0
    ]
    classes += [
        f"{chr(max(0x800, (byte & 0x0F) << 12))}-{chr((byte & 0x0F) << 12 | 0xFFF)}"
        for byte in missing
        if 0xE0 <= byte < 0xF0
    ]
    classes += [
        f"{chr(max(0x10000, (byte & 0x07) << 18))}-{chr(min(0x10FFFF, (byte & 0x07) << 18 | 0x3FFFF))}"
        for byte in missing
        if 0xF0 <= byte < 0xF5
    ]
    return re.compile(f"[{''.join(classes)}]") if classes else None
