"""Cuts documents into pieces and packs these into rows: best-fit, or end to end.

Positions in a document include its boundary tokens: the end-of-text token after it and, with `predicts_first_token`,
another before it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .settings import RowSettings

SENTINELS = 3
SPARE = 0.001  # share of positions reserved for gaps that no piece fits
Spans = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Pieces:
    """Pieces of documents in rows.

    Args:
        documents: The document of each piece, int64, shape (pieces,).
        starts: First position of the piece in its document, int64.
        stops: The position after its last, int64.
        is_infilling: Whether the piece is rearranged for fill-in-the-middle, bool.
        offsets: Row r has the pieces from `offsets[r]` to `offsets[r + 1]`, int64, shape (rows + 1,).
    """

    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    is_infilling: NDArray[np.bool_]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class PackingRules:
    """Settings of packing documents into rows.

    Args:
        settings: The kind of packing, and whether an end-of-text token precedes each document.
        rate: Share of pieces that are rearranged for fill-in-the-middle, 0 to 1.
        max_added: Positions reserved in each of these for tokens that cuts within tokens may add.
    """

    settings: RowSettings
    rate: float
    max_added: int

    @property
    def opening(self) -> int:
        """Number of end-of-text tokens before a document, 0 or 1."""
        return int(self.settings.predicts_first_token)

    def count_extra(self, start: int, *, is_last: bool) -> int:
        """Additional positions that a piece needs in a row if it is rearranged.

        Three sentinels, `max_added`, and an end of text after the middle unless the piece ends its document; the
        end-of-text token before a document is dropped.
        """
        return SENTINELS + self.max_added + (not is_last) - (self.opening if start == 0 else 0)

    def count_blocks(self, places: int, documents: int, *, row_tokens: int, block_tokens: int) -> int:
        """Number of blocks for documents with this many positions, including the expected sentinels."""
        pieces = documents + places / row_tokens
        return int((places * (1 + SPARE) + self.rate * (SENTINELS + self.max_added + 1) * pieces) / block_tokens) + 1


def select(spans: Spans, start: int, stop: int) -> Spans:
    """The part of concatenated documents between two positions."""
    documents, starts, stops, sizes = spans
    ends = np.cumsum(stops - starts)
    begins = ends - (stops - starts)
    is_inside = (ends > start) & (begins < stop)
    cut_starts = np.maximum(start - begins, 0)[is_inside] + starts[is_inside]
    cut_stops = np.minimum(stop - begins, stops - starts)[is_inside] + starts[is_inside]
    return documents[is_inside], cut_starts, cut_stops, sizes[is_inside]


def filter_spans(spans: Spans, is_kept: NDArray[np.bool_]) -> Spans:
    """The documents for which `is_kept` is true."""
    documents, starts, stops, sizes = spans
    return documents[is_kept], starts[is_kept], stops[is_kept], sizes[is_kept]


def pack(spans: Spans, rows: int, row_tokens: int, rules: PackingRules, rng: np.random.Generator) -> Pieces:
    """Packs documents into a given number of rows, not all of which need to be full.

    Every position of a document is in exactly one row. If the rows have no room for more sentinels, fewer pieces are
    rearranged than requested.

    Args:
        spans: Document, first position, the position after the last, and size of the whole document, each int64, shape
            (documents,); together they fit the rows.
    """
    packer = _BestFit if rules.settings.packing == "best-fit" else _EndToEnd
    return packer(rows, row_tokens, rules, rng).pack(spans)


class _Packer(ABC):
    """Packs one set of documents."""

    def __init__(self, rows: int, row_tokens: int, rules: PackingRules, rng: np.random.Generator) -> None:
        self.rows = rows
        self.row_tokens = row_tokens
        self.rules = rules
        self.rng = rng

    def pack(self, spans: Spans) -> Pieces:
        """As the function of the same name."""
        # Free positions for sentinels.
        self.budget = self.rows * self.row_tokens - int((spans[2] - spans[1]).sum())
        columns = self.place(spans)
        order = np.argsort(columns[0], kind="stable")
        row, document, start, stop, is_infilling = (column[order] for column in columns)
        offsets = np.searchsorted(row, np.arange(self.rows + 1))
        return Pieces(document, start, stop, is_infilling.astype(bool), offsets)

    @abstractmethod
    def place(self, spans: Spans) -> NDArray[np.int64]:
        """Row, document, start, stop and whether it is rearranged (1 or 0) of each piece, shape (5, pieces)."""

    def cut(self, start: int, stop: int, size: int, room: int) -> tuple[int, bool, int]:
        """Cuts the next piece of a document to the room in a row, and draws whether it is rearranged.

        It is never rearranged if only the sentinels would make it too long.

        Returns:
            Its stop, whether it is rearranged, and the number of positions that it needs in the row.
        """
        is_whole = stop - start <= room
        if self.rng.random() < self.rules.rate:
            extra = self.rules.count_extra(start, is_last=stop == size and is_whole)
            end = min(stop, start + room - extra)
            if is_whole == (end == stop) and end - start > SENTINELS and extra <= self.budget:
                self.budget -= extra
                return end, True, end - start + extra
        end = min(stop, start + room)
        return end, False, end - start


class _EndToEnd(_Packer):
    def place(self, spans: Spans) -> NDArray[np.int64]:
        row, room = 0, self.row_tokens
        pieces = []
        for document, first, stop, size in zip(*(column.tolist() for column in spans), strict=True):
            start = first
            while start < stop:
                if not room:
                    row, room = row + 1, self.row_tokens
                end, is_infilling, places = self.cut(start, stop, size, room)
                pieces.append((row, document, start, end, is_infilling))
                start, room = end, room - places
        return _to_columns(pieces)


class _BestFit(_Packer):
    """Best-fit decreasing: the longest piece first, into the fullest row that has room for it.

    Source:
        Ding et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830.
    """

    def place(self, spans: Spans) -> NDArray[np.int64]:
        is_long = spans[2] - spans[1] > self.row_tokens
        pieces = np.concatenate(
            [
                self._cut_long(filter_spans(spans, is_long)),
                self._draw(filter_spans(spans, ~is_long)),
            ],
            axis=1,
        )
        places, *columns = pieces[:, np.argsort(-pieces[0], kind="stable")]
        rows, by_room = self._fit(places.tolist())
        placed = np.stack([rows, *columns])
        is_left = rows < 0
        return np.concatenate([placed[:, ~is_left], self._fill_gaps(placed[:, is_left], by_room)], axis=1)

    def _cut_long(self, spans: Spans) -> NDArray[np.int64]:
        """Cuts documents longer than a row; gives size in the row, document, start, stop, whether it is rearranged."""
        pieces = []
        for document, first, stop, size in zip(*map(np.ndarray.tolist, spans), strict=True):
            start = first
            while start < stop:
                end, is_infilling, places = self.cut(start, stop, size, self.row_tokens)
                pieces.append((places, document, start, end, is_infilling))
                start = end
        return _to_columns(pieces)

    def _draw(self, spans: Spans) -> NDArray[np.int64]:
        """The same for documents that fit a row, which are one piece each: `cut` in vectorised form."""
        documents, starts, stops, sizes = spans
        lengths = stops - starts
        extra = SENTINELS + self.rules.max_added + (stops < sizes) - self.rules.opening * (starts == 0)
        is_infilling = self.rng.random(len(lengths)) < self.rules.rate
        is_infilling &= (lengths + extra <= self.row_tokens) & (lengths > SENTINELS)
        is_infilling &= np.cumsum(extra * is_infilling) <= self.budget
        return np.stack([lengths + extra * is_infilling, documents, starts, stops, is_infilling])

    def _fit(self, places: list[int]) -> tuple[NDArray[np.int64], list[list[int]]]:
        """The row of each piece, -1 if none has room for it, and the rows by their remaining room."""
        by_room: list[list[int]] = [[] for _ in range(self.row_tokens + 1)]
        by_room[self.row_tokens] = list(range(self.rows - 1, -1, -1))
        rooms = 1 << self.row_tokens  # bit r is set if a row has room r
        found = []
        for size in places:
            fitting = rooms >> size
            if not fitting:
                found.append(-1)
                continue
            room = size + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            found.append(row)
            if not by_room[room]:
                rooms ^= 1 << room
            left = room - size
            if left:
                if not by_room[left]:
                    rooms |= 1 << left
                by_room[left].append(row)
        return np.array(found, np.int64), by_room

    def _fill_gaps(self, pieces: NDArray[np.int64], by_room: list[list[int]]) -> NDArray[np.int64]:
        """Cuts pieces that fit no row into the remaining room, the largest gaps first; they are not rearranged."""
        gaps = [(room, row) for room, rows in enumerate(by_room) for row in rows if room]
        cut = []
        for document, first, stop in pieces[1:4].T.tolist():
            start = first
            while start < stop:
                room, row = gaps.pop()
                end = min(stop, start + room)
                cut.append((row, document, start, end, False))
                if room > end - start:
                    gaps.append((room - (end - start), row))
                start = end
        return _to_columns(cut)


def _to_columns(rows: list[tuple[int, int, int, int, bool]]) -> NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, 5).T
