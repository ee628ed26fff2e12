"""Which positions each rank computes and which keys its queries see, against loops over single positions."""

from itertools import product

import numpy as np
import pytest

from codeshell_hf.train.row_slices import RowSlicer

SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (3, 2)]


def list_slicers(contexts: int, tensors: int) -> list[RowSlicer]:
    return [RowSlicer(c, contexts, t, tensors) for c, t in product(range(contexts), range(tensors))]


def draw_positions(rows: int, row_tokens: int) -> np.ndarray:
    """Documents of 1 to 17 tokens; the first of a row may go on from the middle."""
    rng = np.random.default_rng(0)
    positions = np.empty((rows, row_tokens), np.int64)
    for row in positions:
        place, first = 0, int(rng.integers(0, 9))
        while place < row_tokens:
            length = min(int(rng.integers(1, 18)), row_tokens - place)
            row[place : place + length] = np.arange(first, first + length)
            place, first = place + length, 0
    return positions


@pytest.mark.parametrize(("contexts", "tensors"), SHAPES)
def test_each_position_is_one_ranks_own_and_in_attention_a_tensor_groups(contexts: int, tensors: int) -> None:
    slicers = list_slicers(contexts, tensors)

    own = [place for slicer in slicers for place in slicer.find_own_places(48).tolist()]

    assert sorted(own) == list(range(48))
    for slicer in slicers:
        group = [other.find_own_places(48) for other in slicers if other.context_rank == slicer.context_rank]
        assert slicer.find_places(48).tolist() == np.concatenate(group).tolist()
        assert [places.tolist() for places in slicer.list_own_places(48)] == [
            other.find_own_places(48).tolist() for other in slicers
        ]


def test_a_context_rank_has_a_chunk_from_each_end_so_that_all_see_equally_many_keys() -> None:
    places = [RowSlicer(rank, 2).find_places(16).tolist() for rank in range(2)]

    assert places == [[0, 1, 2, 3, 12, 13, 14, 15], [4, 5, 6, 7, 8, 9, 10, 11]]
    assert len({sum(place + 1 for place in RowSlicer(rank, 4).find_places(64).tolist()) for rank in range(4)}) == 1


@pytest.mark.parametrize("contexts", [1, 2, 4])
def test_gathered_positions_are_put_in_order(contexts: int) -> None:
    gathered = np.concatenate([RowSlicer(rank, contexts).find_places(32) for rank in range(contexts)])

    assert gathered[RowSlicer(0, contexts).find_order(32)].tolist() == list(range(32))


@pytest.mark.parametrize(("contexts", "tensors"), SHAPES)
def test_targets_are_the_next_tokens_across_the_borders_of_ranks(contexts: int, tensors: int) -> None:
    labels = np.random.default_rng(0).integers(-100, 9, (3, 24))

    found: dict[tuple[int, int], int] = {}
    for slicer in list_slicers(contexts, tensors):
        for row, targets in enumerate(slicer.cut_targets(labels)):
            found |= {(row, p): int(t) for p, t in zip(slicer.find_own_places(24), targets, strict=True)}

    assert found == {
        (row, place): int(labels[row, place + 1]) if place < 23 else -100 for row in range(3) for place in range(24)
    }


@pytest.mark.parametrize("contexts", [1, 2, 4])
def test_a_query_sees_its_documents_keys_up_to_itself(contexts: int) -> None:
    positions = draw_positions(3, 48)
    documents = np.cumsum(
        [[place == 0 or row[place] != row[place - 1] + 1 for place in range(48)] for row in positions]
    )
    expected = {
        number: [other for other in range(number // 48 * 48, number + 1) if documents[other] == documents[number]]
        for number in range(3 * 48)
    }

    found = {}
    for rank in range(contexts):
        slicer = RowSlicer(rank, contexts)
        lengths = slicer.find_keys(positions)
        local = [row * 48 + place for row in range(3) for place in slicer.find_places(48).tolist()]
        assert lengths.queries[-1] == len(local)
        assert lengths.queries.dtype == lengths.keys.dtype == np.int32
        for piece in range(len(lengths.queries) - 1):
            queries = local[lengths.queries[piece] : lengths.queries[piece + 1]]
            keys = lengths.places[lengths.keys[piece] : lengths.keys[piece + 1]].tolist()
            for back, query in enumerate(reversed(queries)):
                found[query] = keys[: len(keys) - back]

    assert found == expected
