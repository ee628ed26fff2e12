"""Fill-in-the-middle: draws which pieces are rearranged and where they are cut, and rearranges them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..text.grammars import find_language
from .cuts import cut_lines, cut_syntax
from .marks import Marks, read_path, split_context
from .settings import CutLevel, InfillingSettings

ADDED = 3  # tokens reserved for each piece whose text is cut, since its re-encoding may be longer
REPLACED = "\N{REPLACEMENT CHARACTER}"  # decoded from incomplete characters
LEVELS: tuple[CutLevel, ...] = ("token", "character", "line", "syntax")


@dataclass(frozen=True)
class Infilling:
    """The settings of fill-in-the-middle, and what cuts need.

    Args:
        settings: How often pieces are rearranged, and where they are cut.
        codec: Needed for all levels but "token".
        marks: Tokens that start the files of repository-level documents, of which one file is cut; `None` if the
            vocabulary has none.

    Raises:
        DataError: If a level needs a codec and there is none.
    """

    settings: InfillingSettings
    codec: "Codec | None" = None
    marks: Marks | None = None

    def __post_init__(self) -> None:
        if self.codec is None and self.cuts_text:
            raise DataError(f"infilling.cuts is {self.settings.cuts} without a codec; give one, or cut only by token")

    @property
    def cuts_text(self) -> bool:
        """Whether some pieces are cut in their text, and so perhaps within tokens."""
        return any(share > 0 for level, share in self.settings.cuts.items() if level != "token")

    @property
    def max_added(self) -> int:
        """Tokens besides the sentinels that rearranging may add to a piece."""
        return ADDED if self.cuts_text else 0


@dataclass(frozen=True)
class Draws:
    """The random draws for a number of pieces.

    Args:
        fractions: Start and end of the middle, in [0, 1), sorted, float32, shape (pieces, 2).
        levels: Index into `LEVELS`, int8.
        is_suffix_first: Whether the order is suffix, prefix, middle.
        files: Chooses the file of a repository-level document that is cut, in [0, 1), float32.
    """

    fractions: NDArray[np.float32]
    levels: NDArray[np.int8]
    is_suffix_first: NDArray[np.bool_]
    files: NDArray[np.float32]


def draw_cuts(infilling: Infilling | None, pieces: int, rng: np.random.Generator) -> Draws:
    """Draws for each piece where and how it is cut, used if it is rearranged."""
    shares = [infilling.settings.cuts.get(level, 0.0) if infilling else 0.0 for level in LEVELS]
    levels = np.searchsorted(np.cumsum(shares)[:-1], rng.random(pieces, dtype=np.float32), side="right")
    is_suffix_first = rng.random(pieces, dtype=np.float32) < (infilling.settings.spm_rate if infilling else 0.0)
    fractions = np.sort(rng.random((pieces, 2), dtype=np.float32), axis=1)
    return Draws(fractions, levels.astype(np.int8), is_suffix_first, rng.random(pieces, dtype=np.float32))


class Codec(Protocol):
    """A tokenizer without special tokens."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""


def rearrange_for_infilling(
    tokens: NDArray[np.int64], middle: tuple[int, int], *, suffix_first: bool, sentinels: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Moves the middle of a piece to its end and adds sentinels: shape (T,) to (T + 3,), int64.

    Args:
        middle: First token of the middle and the one after its last, 0 <= start <= end <= T.
        suffix_first: False gives prefix, suffix, middle (PSM). True gives suffix, prefix, middle (SPM), without a
            sentinel between prefix and middle.
        sentinels: Ids of `<fim_prefix>`, `<fim_middle>` and `<fim_suffix>`.

    Raises:
        DataError: If the middle is out of range.

    Source:
        Bavarian et al. 2022, arXiv:2207.14255, section 3; suffix-first as StarCoder's SPMv2.
    """
    start, end = middle
    if not 0 <= start <= end <= len(tokens):
        raise DataError(f"middle is {start} to {end} of {len(tokens)} tokens; it must lie inside")
    prefix_id, middle_id, suffix_id = ([sentinel] for sentinel in sentinels)
    before, inside, after = tokens[:start], tokens[start:end], tokens[end:]
    parts = (
        (prefix_id, suffix_id, after, middle_id, before, inside)
        if suffix_first
        else (prefix_id, before, suffix_id, after, middle_id, inside)
    )
    return np.concatenate(parts).astype(np.int64, copy=False)


def place_cuts(cuts: tuple[float, float], length: int) -> tuple[int, int]:
    """Start and end of the middle: two of the `length + 1` positions between tokens or characters, both ends included.

    Args:
        cuts: Uniform in [0, 1), sorted; every position is equally likely.
    """
    start, end = (int(cut * (length + 1)) for cut in cuts)
    return start, end


def rearrange(
    tokens: NDArray[np.int64],
    draws: Draws,
    piece: int,
    infilling: Infilling,
    language: str,
    sentinels: tuple[int, int, int],
    max_added: int,
) -> NDArray[np.int64]:
    """Rearranges a piece as drawn: shape (T,) to at most (T + 3 + max_added,), int64.

    In a repository-level document, one file is rearranged and moved behind the others. For levels other than "token",
    the text is cut and prefix, middle and suffix are encoded separately. If that adds more than `max_added` tokens, or
    the piece starts or ends within a character, it is cut between tokens instead.

    Args:
        language: Of the document, as curation names it, for cuts by syntax; for a file of a repository-level document,
            its path decides.
        max_added: How many tokens cuts may add.

    Source:
        StarCoder (Li et al. 2023, arXiv:2305.06161, section 5.1) transforms characters, as Bavarian et al. 2022,
        section 4.3, recommend.
    """
    if infilling.marks is not None:
        context, tokens = split_context(tokens, infilling.marks, float(draws.files[piece]))
    else:
        context = tokens[:0]
    if len(context) and infilling.marks is not None and infilling.codec is not None:
        language = find_language(infilling.codec.decode(read_path(context, infilling.marks).tolist()))
    cuts = (float(draws.fractions[piece, 0]), float(draws.fractions[piece, 1]))
    level = LEVELS[draws.levels[piece]]
    suffix_first = bool(draws.is_suffix_first[piece])
    middle = place_cuts(cuts, len(tokens))
    if level != "token" and infilling.codec is not None:
        text = infilling.codec.decode(tokens.tolist())
        if REPLACED not in text:
            start, end = _cut_text(text, cuts, level, language)
            parts = [infilling.codec.encode(part) for part in (text[:start], text[start:end], text[end:])]
            if sum(map(len, parts)) <= len(tokens) + max_added:
                tokens = np.array([token for part in parts for token in part], np.int64)
                middle = (len(parts[0]), len(parts[0]) + len(parts[1]))
    arranged = rearrange_for_infilling(tokens, middle, suffix_first=suffix_first, sentinels=sentinels)
    return np.concatenate([context, arranged])


def _cut_text(text: str, cuts: tuple[float, float], level: CutLevel, language: str) -> tuple[int, int]:
    """Start and end of the middle in characters."""
    if level == "syntax" and (found := cut_syntax(text, place_cuts(cuts, len(text)), language)):
        return found
    return place_cuts(cuts, len(text)) if level == "character" else cut_lines(text, cuts)
