"""Rows are found from the seed and the tokens consumed alone, and an epoch holds every position once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codeshell_hf.errors import SettingsError
from codeshell_hf.pack import layout as layouts
from codeshell_hf.pack import order
from codeshell_hf.pack.infilling import ADDED
from codeshell_hf.pack.layout import Phase, RowLayout, describe_rows
from codeshell_hf.pack.order import sum_chunks
from codeshell_hf.pack.pieces import PackingRules
from codeshell_hf.pack.settings import Packing, RowSettings


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, pools and windows so small that a few documents need many."""
    monkeypatch.setattr(order, "CHUNK_DOCUMENTS", 4)
    monkeypatch.setattr(layouts, "CHUNK_DOCUMENTS", 4)
    monkeypatch.setattr(layouts, "POOL_BLOCKS", 6)
    monkeypatch.setattr(order, "POOLS_IN_TURN", 3)


def make_layout(
    lengths: list[int], phases: list[Phase], *, seed: int = 0, packing: Packing = "best-fit", rate: float = 0.5
) -> RowLayout:
    return RowLayout(np.array(lengths), PackingRules(RowSettings(packing=packing), rate, 0), seed=seed, phases=phases)


def walk(layout: RowLayout, start: int, stop: int) -> Counter[tuple[int, int]]:
    """How often each position of each document is in the rows of a stretch of tokens."""
    seen: Counter[tuple[int, int]] = Counter()
    consumed = start
    while consumed < stop:
        part, row = layout.locate(consumed)
        pieces = layout.pack(part)
        for piece in range(pieces.offsets[row], pieces.offsets[row + 1]):
            places = range(int(pieces.starts[piece]), int(pieces.stops[piece]))
            seen.update((int(pieces.documents[piece]), place) for place in places)
        consumed += layout.find_row_tokens(consumed)
    assert consumed == stop
    return seen


@pytest.mark.usefixtures("small")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=12, max_size=40),
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([8, 12, 24])), max_size=4),
    st.sampled_from(["best-fit", "end-to-end"]),
    st.sampled_from([0.0, 1.0]),
)
def test_an_epoch_holds_every_position_once_whatever_the_phases(
    lengths: list[int], changes: list[tuple[int, int]], packing: Packing, rate: float
) -> None:
    phases, start = [Phase(0, 24)], 0
    for blocks, row_tokens in changes:
        start += blocks * 24
        phases.append(Phase(start, row_tokens))
    layout = make_layout(lengths, phases, packing=packing, rate=rate)

    first = layout.plan(0).end_block * 24
    layout.locate(first)
    second = layout.plan(1).end_block * 24

    once = Counter((document, place) for document, length in enumerate(lengths) for place in range(length + 1))
    assert walk(layout, 0, first) == once
    assert walk(layout, first, second) == once
    assert layout.count_epochs(second) == 2


@pytest.mark.usefixtures("small")
def test_rows_are_found_whatever_was_asked_before() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 60).tolist()
    whole = make_layout(lengths, [Phase(0, 24)])
    expected = [whole.locate(consumed) for consumed in range(0, 24 * 200, 24)]

    for row in (199, 3, 120, 0):
        assert make_layout(lengths, [Phase(0, 24)]).locate(24 * row) == expected[row]
    assert [make_layout(lengths, [Phase(0, 24)], seed=1).locate(24 * row) for row in range(200)] != expected


@pytest.mark.usefixtures("small")
def test_rows_of_a_window_come_from_its_pools_in_turn() -> None:
    layout = make_layout([23] * 400, [Phase(0, 24)])
    blocks = layout.plan(0).blocks

    pools = [layout.locate(block * 24)[0].pool for block in range(int(blocks[6]))]

    assert set(pools[: blocks[3]]) == {0, 1, 2}
    assert set(pools[blocks[3] :]) == {3, 4, 5}
    # Rows of 21 blocks in the order of their three pools by chance: once in 399 million.
    assert pools[: blocks[3]] != sorted(pools[: blocks[3]])


@pytest.mark.usefixtures("small")
def test_chunks_are_in_another_order_in_each_epoch_and_of_each_seed() -> None:
    layout = make_layout([23] * 400, [Phase(0, 24)])
    layout.locate(layout.plan(0).end_block * 24)

    orders = [
        layout.plan(0).chunks,
        layout.plan(1).chunks,
        make_layout([23] * 400, [Phase(0, 24)], seed=1).plan(0).chunks,
    ]

    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert all(sorted(order.tolist()) == list(range(100)) for order in orders)


def test_chunks_are_summed_alike_in_memory_and_mapped_from_a_file(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(0, 2**32, 2500).astype(np.uint32)
    np.save(tmp_path / "lengths.npy", lengths)
    mapped = np.load(tmp_path / "lengths.npy", mmap_mode="r")

    expected = [sum(lengths[start : start + 1024].tolist()) for start in (0, 1024, 2048)]

    assert sum_chunks(lengths).tolist() == expected
    assert sum_chunks(mapped).tolist() == expected
    assert sum_chunks(np.asarray(mapped)).tolist() == expected
    assert mapped[0] == lengths[0]


def test_use_of_rows_is_told() -> None:
    # Of 3 x 61 tokens with their ends in rows of 61, each document fills one: 4 blocks are planned.
    assert describe_rows(np.array([60, 60, 60]), 61) == (183 / 244, 0.0)
    used, cut = describe_rows(np.array([40, 40, 40]), 61, PackingRules(RowSettings(packing="end-to-end"), 0.0, 0))
    assert used == pytest.approx(123 / 183)
    assert cut == pytest.approx(2 / 3)


@pytest.mark.parametrize(("rate", "more"), [(0.0, 0), (0.5, ADDED)])
def test_documents_of_code_fill_rows_and_none_that_fits_is_cut(rate: float, more: int) -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(500), 1.2, 8000), 10, 50_000).astype(int)

    for row_tokens in (2048, 8192):
        used, cut = describe_rows(lengths, row_tokens, PackingRules(RowSettings(), rate, more))

        assert used >= 0.995
        assert cut == 0


def test_phases_that_do_not_divide_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"let all lengths and steps divide evenly"):
        make_layout([60] * 9, [Phase(0, 24), Phase(96, 32)])
    with pytest.raises(SettingsError, match=r"begin at token 40, but the longest rows have 32"):
        make_layout([60] * 9, [Phase(0, 32), Phase(40, 16)])
