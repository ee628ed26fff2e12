"""Fill-in-the-middle: a part of a document moves behind the rest, so that the model learns to fill it in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError


@dataclass(frozen=True)
class Infilling:
    """How often documents are rearranged.

    Args:
        rate: Share of documents, 0 to 1.
        spm_rate: Share of those whose suffix comes first, 0 to 1.
    """

    rate: float
    spm_rate: float


def rearrange_for_infilling(
    tokens: NDArray[np.int64], middle: tuple[int, int], *, suffix_first: bool, sentinels: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Moves the middle of one document behind its suffix, between sentinels.

    Args:
        tokens: Ids of one document, shape (T,), int64, without special tokens.
        middle: First token of the middle and the one after its last, 0 <= start <= end <= T.
        suffix_first: False gives prefix, suffix, middle; True puts the suffix first and lets the middle follow the
            prefix without a sentinel.
        sentinels: Ids of `<fim_prefix>`, `<fim_middle>` and `<fim_suffix>`.

    Returns:
        Shape (T + 3,): the same tokens and three sentinels.

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
