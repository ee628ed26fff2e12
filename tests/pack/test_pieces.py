"""Documents are cut into pieces, and pieces packed into rows, so that every position is in one place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from codeshell_hf.pack.pieces import PackingRules, Pieces, Spans, pack, select
from codeshell_hf.pack.settings import Packing, RowSettings


def make_spans(sizes: list[int]) -> Spans:
    size = np.array(sizes, np.int64)
    return np.arange(len(size)), np.zeros_like(size), size, size


def pack_sizes(
    sizes: list[int],
    rows: int,
    row_tokens: int,
    *,
    packing: Packing = "best-fit",
    rate: float = 0.0,
    opens: bool = False,
    more: int = 0,
    seed: int = 0,
) -> Pieces:
    rules = PackingRules(RowSettings(packing=packing, predicts_first_token=opens), rate, more)
    return pack(make_spans(sizes), rows, row_tokens, rules, np.random.default_rng(seed))


def list_rows(pieces: Pieces) -> list[list[tuple[int, int, int]]]:
    """Document, start and stop of each piece, by row."""
    each = list(zip(pieces.documents.tolist(), pieces.starts.tolist(), pieces.stops.tolist(), strict=True))
    return [each[start:stop] for start, stop in zip(pieces.offsets, pieces.offsets[1:], strict=False)]


def count_places(pieces: Pieces, sizes: list[int], *, opens: bool, more: int) -> NDArray[np.int64]:
    """Places that each row needs, counted piece by piece."""
    needed = []
    number = 0
    for row in list_rows(pieces):
        total = 0
        for document, start, stop in row:
            total += stop - start
            if pieces.is_infilling[number]:
                total += 3 + more
                total += stop < sizes[document]  # an end behind the middle, though the document goes on
                total -= opens and start == 0
            number += 1
        needed.append(total)
    return np.array(needed)


@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=40),
    st.sampled_from([8, 16, 33]),
    st.sampled_from(["best-fit", "end-to-end"]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from([0, 4]),
    st.integers(0, 3),
)
def test_every_position_is_in_one_piece_and_every_piece_in_its_row(
    sizes: list[int], row_tokens: int, packing: Packing, rate: float, opens: bool, more: int, spare: int
) -> None:
    sizes = [size + 1 + opens for size in sizes]
    rows = -(-sum(sizes) // row_tokens) + spare

    pieces = pack_sizes(sizes, rows, row_tokens, packing=packing, rate=rate, opens=opens, more=more)

    seen = [np.zeros(size, int) for size in sizes]
    for document, start, stop in zip(pieces.documents, pieces.starts, pieces.stops, strict=True):
        seen[document][start:stop] += 1
    assert all((one == 1).all() for one in seen)
    assert len(pieces.offsets) == rows + 1
    assert count_places(pieces, sizes, opens=opens, more=more).max() <= row_tokens


@given(st.lists(st.integers(1, 33), min_size=1, max_size=40), st.integers(0, 9))
def test_best_fit_is_that_of_a_plain_loop(sizes: list[int], spare: int) -> None:
    row_tokens, rows = 33, len(sizes) + spare

    pieces = pack_sizes(sizes, rows, row_tokens)

    room = [row_tokens] * rows
    for size in sorted(sizes, reverse=True):
        fullest = min((left for left in room if left >= size), default=None)
        assert fullest is not None
        room[room.index(fullest)] -= size
    filled = sorted(row_tokens - left for left in room)
    assert sorted(sum(stop - start for _, start, stop in row) for row in list_rows(pieces)) == filled
    assert len(pieces.documents) == len(sizes)  # nothing is cut


def test_documents_are_cut_only_where_no_row_has_room_for_them() -> None:
    pieces = pack_sizes([6, 6, 6, 2], rows=2, row_tokens=10)

    rows = list_rows(pieces)
    assert sorted(stop - start for row in rows for _, start, stop in row) == [2, 2, 4, 6, 6]
    # Two of six and one of two are whole; the third of six fills what is left.
    assert sum(row.count((3, 0, 2)) for row in rows) == 1


def test_long_documents_fill_whole_rows_and_leave_a_rest() -> None:
    pieces = pack_sizes([25, 3, 4], rows=4, row_tokens=10)

    assert sorted(list_rows(pieces)) == [[(0, 0, 10)], [(0, 10, 20)], [(0, 20, 25), (2, 0, 4)], [(1, 0, 3)]]


def test_end_to_end_cuts_where_rows_end() -> None:
    pieces = pack_sizes([4, 9, 5], rows=2, row_tokens=10, packing="end-to-end")

    assert list_rows(pieces) == [[(0, 0, 4), (1, 0, 6)], [(1, 6, 9), (2, 0, 5)]]


def test_sentinels_are_left_out_where_rows_have_no_place_for_them() -> None:
    full = pack_sizes([10] * 6, rows=6, row_tokens=10, rate=1.0)
    roomy = pack_sizes([10] * 6, rows=9, row_tokens=20, rate=1.0)

    assert full.is_infilling.sum() == 0
    assert roomy.is_infilling.sum() == 6


def test_no_document_that_fits_a_row_is_cut_for_its_sentinels() -> None:
    pieces = pack_sizes([9, 10], rows=4, row_tokens=10, rate=1.0)

    assert sorted(row for row in list_rows(pieces) if row) == [[(0, 0, 9)], [(1, 0, 10)]]


def test_sentinels_that_do_not_fit_a_row_are_not_taken_from_other_documents() -> None:
    # Beside 16 tokens there is room for four more. With its sentinels the first document would not fit a row, and the
    # last is too short for any.
    pieces = pack_sizes([9, 5, 2], rows=2, row_tokens=10, rate=1.0)

    assert sorted(list_rows(pieces)) == [[(0, 0, 9)], [(1, 0, 5), (2, 0, 2)]]
    assert pieces.documents[pieces.is_infilling].tolist() == [1]


@pytest.mark.parametrize("packing", ["best-fit", "end-to-end"])
def test_a_part_of_a_document_keeps_a_place_for_the_end_behind_its_middle(packing: Packing) -> None:
    """Ten places are three sentinels, an end, and six tokens; a document that ends has its end among its own."""
    found = {}
    for stop, size in ((6, 20), (7, 20), (7, 7)):
        start = np.zeros(1, np.int64)
        spans = start, start, np.array([stop]), np.array([size])
        rules = PackingRules(RowSettings(packing=packing), 1.0, 0)
        found[stop, size] = pack(spans, 2, 10, rules, np.random.default_rng(0)).is_infilling.tolist()

    assert found == {(6, 20): [True], (7, 20): [False], (7, 7): [True]}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.data())
def test_spans_between_two_borders_are_those_of_the_laid_out_whole(sizes: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, sum(sizes)))
    stop = data.draw(st.integers(start, sum(sizes)))

    documents, starts, stops, whole = select(make_spans(sizes), start, stop)

    laid_out = [(document, place) for document, size in enumerate(sizes) for place in range(size)]
    spans = zip(documents.tolist(), starts.tolist(), stops.tolist(), strict=True)
    assert [(document, place) for document, first, last in spans for place in range(first, last)] == laid_out[
        start:stop
    ]
    assert whole.tolist() == [sizes[document] for document in documents]
