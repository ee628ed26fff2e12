"""Cuts documents into pieces and packs these into rows: best-fit, or end to end.

A document counts as its tokens between its marks: the end-of-text token behind them and, where the recipe asks, one
before them. Positions below are in tokens with these marks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .settings import RowSettings

SENTINELS = 3
SPARE = 0.0025  # of all places, for gaps that no piece fits
Spans = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Pieces:
    """Pieces of documents in rows.

    Args:
        documents: The document of each piece, int64, shape (pieces,).
        starts: First position of the piece in its document, int64.
        stops: The one after its last, int64.
        is_infilling: Whether the piece is rearranged, bool.
        offsets: Row r holds the pieces from `offsets[r]` to `offsets[r + 1]`, int64, shape (rows + 1,).
    """

    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    is_infilling: NDArray[np.bool_]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """How documents become rows.

    Args:
        settings: How they are packed, and whether a document has a mark before its first token.
        rate: Share of pieces that are rearranged for infilling, 0 to 1.
    """

    settings: RowSettings
    rate: float

    @property
    def opening(self) -> int:
        """Marks before the first token of a document, 0 or 1."""
        return int(self.settings.predicts_first_token)

    def count_extra(self, start: int, *, is_last: bool) -> int:
        """Places that a piece takes beyond its positions when it is rearranged.

        Three sentinels, and an end behind the middle of a piece that is not the last; the mark before a document is
        left out.
        """
        return SENTINELS + (not is_last) - (self.opening if start == 0 else 0)

    def count_blocks(self, places: int, documents: int, *, row_tokens: int, block_tokens: int) -> int:
        """Blocks in which documents find their places, with the sentinels that are to be expected."""
        pieces = documents + places / row_tokens
        return int((places * (1 + SPARE) + self.rate * (SENTINELS + 1) * pieces) / block_tokens) + 1


def select(spans: Spans, start: int, stop: int) -> Spans:
    """The part of documents, laid end to end, between two positions of all of them."""
    documents, starts, stops, sizes = spans
    ends = np.cumsum(stops - starts)
    begins = ends - (stops - starts)
    is_inside = (ends > start) & (begins < stop)
    cut_starts = np.maximum(start - begins, 0)[is_inside] + starts[is_inside]
    cut_stops = np.minimum(stop - begins, stops - starts)[is_inside] + starts[is_inside]
    return documents[is_inside], cut_starts, cut_stops, sizes[is_inside]


def pack(spans: Spans, rows: int, row_tokens: int, rules: Rules, rng: np.random.Generator) -> Pieces:
    """Packs documents into a number of rows, which may be more than they fill.

    Every position gets into exactly one row. Where the rows have no place for more sentinels, fewer pieces are
    rearranged than asked.

    Args:
        spans: Document, first position, the one after the last, and size of the whole document, each int64, of shape
            (documents,); together they fit the rows.
    """
    packer = _BestFit if rules.settings.packing == "best-fit" else _EndToEnd
    return packer(rows, row_tokens, rules, rng).pack(spans)


class _Packer:
    """Collects pieces by row."""

    def __init__(self, rows: int, row_tokens: int, rules: Rules, rng: np.random.Generator) -> None:
        self.row_tokens = row_tokens
        self.rules = rules
        self.rng = rng
        self.rows: list[list[tuple[int, int, int, bool]]] = [[] for _ in range(rows)]

    def pack(self, spans: Spans) -> Pieces:
        """As the function of this name."""
        # Places that are left for sentinels.
        self.budget = len(self.rows) * self.row_tokens - int((spans[2] - spans[1]).sum())
        self.fill(spans)
        pieces = [piece for row in self.rows for piece in row]
        columns = np.array(pieces, np.int64).reshape(-1, 4).T
        offsets = np.cumsum([0, *(len(row) for row in self.rows)])
        return Pieces(columns[0], columns[1], columns[2], columns[3].astype(bool), offsets)

    def fill(self, spans: Spans) -> None:
        raise NotImplementedError

    def cut(self, start: int, stop: int, size: int, room: int, *, is_drawn: bool) -> tuple[int, bool, int]:
        """Cuts the next piece of a document for the room in a row.

        Args:
            is_drawn: Whether it is to be rearranged, which it is not where the sentinels alone would cut it.

        Returns:
            Where it stops, whether it is rearranged, and the places that it takes.
        """
        extra = self.rules.count_extra(start, is_last=stop == size)
        is_whole = stop - start <= room
        if is_drawn and is_whole == (stop - start + extra <= room):
            if not is_whole:
                extra = self.rules.count_extra(start, is_last=False)
            end = min(stop, start + room - extra)
            if end - start > SENTINELS and extra <= self.budget:
                self.budget -= extra
                return end, True, end - start + extra
        end = min(stop, start + room)
        return end, False, end - start


class _EndToEnd(_Packer):
    def fill(self, spans: Spans) -> None:
        row, room = 0, self.row_tokens
        for document, first, stop, size in zip(*(column.tolist() for column in spans), strict=True):
            start = first
            while start < stop:
                if not room:
                    row, room = row + 1, self.row_tokens
                is_drawn = self.rng.random() < self.rules.rate
                end, is_infilling, places = self.cut(start, stop, size, room, is_drawn=is_drawn)
                self.rows[row].append((document, start, end, is_infilling))
                start, room = end, room - places


class _BestFit(_Packer):
    """Best-fit decreasing: the longest piece first, into the fullest row that has room for it.

    Source:
        Ding et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830.
    """

    def fill(self, spans: Spans) -> None:
        row_tokens = self.row_tokens
        pieces: list[tuple[int, int, int, int, bool]] = []
        for document, first, stop, size in zip(*(column.tolist() for column in spans), strict=True):
            start = first
            while start < stop:
                is_drawn = self.rng.random() < self.rules.rate
                end, is_infilling, places = self.cut(start, stop, size, row_tokens, is_drawn=is_drawn)
                pieces.append((places, document, start, end, is_infilling))
                start = end
        pieces.sort(key=lambda piece: -piece[0])

        # Rows by the room that is left in them; bit r of `rooms` tells whether there is one with room r.
        by_room: list[list[int]] = [[] for _ in range(row_tokens + 1)]
        by_room[row_tokens] = list(range(len(self.rows) - 1, -1, -1))
        rooms = 1 << row_tokens
        left = []
        for piece in pieces:
            places = piece[0]
            fitting = rooms >> places
            if not fitting:
                left.append(piece)
                continue
            room = places + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
            self.rows[row].append(piece[1:])
            if room > places:
                if not by_room[room - places]:
                    rooms |= 1 << (room - places)
                by_room[room - places].append(row)
        self._fill_gaps(left, by_room)

    def _fill_gaps(self, left: list[tuple[int, int, int, int, bool]], by_room: list[list[int]]) -> None:
        """Cuts what found no place into the room that is left, the most of it first; these are not rearranged."""
        gaps = [(room, row) for room, rows in enumerate(by_room) for row in rows if room]
        for _, document, first, stop, _ in left:
            start = first
            while start < stop:
                room, row = gaps.pop()
                end = min(stop, start + room)
                self.rows[row].append((document, start, end, False))
                if room > end - start:
                    gaps.append((room - (end - start), row))
                start = end
