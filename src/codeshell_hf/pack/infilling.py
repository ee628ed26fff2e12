"""Fill-in-the-middle: a part of a document moves behind the rest, so that the model learns to fill it in."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError


@dataclass(frozen=True)
class Infilling:
    """How often documents are rearranged.

    Args:
        rate: Share of documents, 0 to 1.
        spm_rate: Share of those whose suffix comes first, 0 to 1.
        codec: For cuts between characters; `None` cuts between tokens.
    """

    rate: float
    spm_rate: float
    codec: "Codec | None" = None


class Codec(Protocol):
    """A tokenizer without special tokens."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""


def rearrange_for_infilling(
    tokens: NDArray[np.int64], middle: tuple[int, int], *, suffix_first: bool, sentinels: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Moves the middle of one document behind its suffix, between sentinels: shape (T,) to (T + 3,), int64.

    Args:
        middle: First token of the middle and the one after its last, 0 <= start <= end <= T.
        suffix_first: False is prefix, suffix, middle; True puts the suffix first, and the middle follows the prefix
            without a sentinel.
        sentinels: Ids of `<fim_prefix>`, `<fim_middle>` and `<fim_suffix>`.

    Raises:
        DataError: If the middle lies outside the document.

    Source:
        Bavarian et al. 2022, arXiv:2207.14255, section 3; suffix-first as StarCoder's SPMv2.
    """
    start, end = middle
    if not 0 <= start <= end <= len(tokens):
        raise DataError(f"middle is {start} to {end} in a document of {len(tokens)} tokens; it must lie inside")
    prefix_id, middle_id, suffix_id = ([sentinel] for sentinel in sentinels)
    before, inside, after = tokens[:start], tokens[start:end], tokens[end:]
    parts = (
        (prefix_id, suffix_id, after, middle_id, before, inside)
        if suffix_first
        else (prefix_id, before, suffix_id, after, middle_id, inside)
    )
    return np.concatenate(parts).astype(np.int64, copy=False)


def place_cuts(cuts: tuple[float, float], length: int) -> tuple[int, int]:
    """Start and end of the middle among the `length + 1` places before, between and behind tokens or characters.

    Args:
        cuts: Uniform in [0, 1), sorted; every place, also the end of the document, is equally likely.
    """
    start, end = (int(cut * (length + 1)) for cut in cuts)
    return start, end


def rearrange_characters(
    tokens: NDArray[np.int64],
    cuts: tuple[float, float],
    codec: Codec,
    *,
    suffix_first: bool,
    sentinels: tuple[int, int, int],
) -> NDArray[np.int64]:
    """Moves the middle of one document, cut between characters, so that a middle may begin inside a word.

    The three parts are encoded again, each by itself, and the tokens that this adds are cut off the suffix: the result
    is as long as that of `rearrange_for_infilling`, so that rows can be planned without encoding anything. Where the
    suffix is too short for that, cuts are made between tokens.

    Args:
        cuts: Start and end of the middle as fractions of the document, sorted, each in [0, 1).

    Source:
        StarCoder (Li et al. 2023, arXiv:2305.06161, section 5.1) transforms characters, as Bavarian et al. 2022,
        section 4.3, recommend.
    """
    text = codec.decode(tokens.tolist())
    start, end = place_cuts(cuts, len(text))
    before, inside, after = (codec.encode(part) for part in (text[:start], text[start:end], text[end:]))
    more = len(before) + len(inside) + len(after) - len(tokens)
    if not 0 <= more <= len(after):
        middle = place_cuts(cuts, len(tokens))
        return rearrange_for_infilling(tokens, middle, suffix_first=suffix_first, sentinels=sentinels)
    whole = np.array([*before, *inside, *after[: len(after) - more]], np.int64)
    middle = (len(before), len(before) + len(inside))
    return rearrange_for_infilling(whole, middle, suffix_first=suffix_first, sentinels=sentinels)
