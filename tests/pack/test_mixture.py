"""Mixtures of shards."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.pack.infilling import Infilling
from codeshell_hf.pack.layout import Phase
from codeshell_hf.pack.mixture import PERIOD, Mixture
from codeshell_hf.pack.rows import Rows
from codeshell_hf.pack.settings import InfillingSettings
from codeshell_hf.text.shards import TokenShards
from tests.pack.letters import make_shards


@pytest.fixture
def two(tmp_path: Path) -> list[TokenShards]:
    return [make_shards(tmp_path / name, [letter * 40] * 50) for name, letter in (("a", "a"), ("b", "b"))]


def test_a_mixture_gives_each_its_share_and_each_its_own_stream(two: list[TokenShards]) -> None:
    mixture = Mixture(two, [[0.75, 0.25]], seed=3, phases=[Phase(0, 32)], infilling=None)
    batch = mixture.read(0, PERIOD)

    is_second = (batch.input_ids == ord("b")).any(axis=1)
    assert is_second.sum() == PERIOD // 4
    alone = Rows(two[1], seed=4, phases=[Phase(0, 32)], infilling=None).read(0, PERIOD // 4)
    assert np.array_equal(batch.input_ids[is_second], alone.input_ids)
    assert np.array_equal(batch.labels[is_second], alone.labels)


def test_a_mixture_does_not_depend_on_how_it_is_asked_for_through_a_change_of_length(two: list[TokenShards]) -> None:
    phases = [Phase(0, 16), Phase(64 * 20, 64)]
    infilling = Infilling(InfillingSettings(rate=0.5, spm_rate=0.5, cuts={"token": 1.0}))
    mixture, again = (Mixture(two, [[0.5, 0.5]] * 2, seed=1, phases=phases, infilling=infilling) for _ in range(2))
    whole = mixture.read(0, 80)

    for row in (79, 3, 40):
        assert np.array_equal(again.read(row * 16, 1).input_ids[0], whole.input_ids[row])
    assert mixture.find_row_tokens(64 * 20 - 1) == 16
    assert mixture.read(64 * 20, 5).input_ids.shape == (5, 64)
    # What the streams have given by the change is whole blocks of each: nothing is lost or doubled.
    assert sum(mixture._count(20, number) for number in (0, 1)) == 20
    assert 0 < mixture.count_epochs(64 * 40) < 3


@pytest.mark.parametrize("shares", [[0.5, 0.6], [0.0, 1.0], [1.5, -0.5]])
def test_shares_that_are_none_are_refused(two: list[TokenShards], shares: list[float]) -> None:
    with pytest.raises(SettingsError, match="let the first be above 0 and all together 1"):
        Mixture(two, [shares], seed=0, phases=[Phase(0, 16)], infilling=None)


def test_shards_may_join_in_a_later_phase(two: list[TokenShards]) -> None:
    phases = [Phase(0, 16), Phase(64 * 32, 64)]
    mixture = Mixture(two, [[1.0, 0.0], [0.5, 0.5]], seed=1, phases=phases, infilling=None)

    first, second = mixture.read(0, 4 * 32), mixture.read(64 * 32, PERIOD)

    assert not (first.input_ids == ord("b")).any()
    assert (second.input_ids == ord("b")).any(axis=1).sum() == PERIOD // 2
    # The second's stream begins at its beginning, in rows of the second phase.
    alone = Rows(two[1], seed=2, phases=[Phase(0, 64)], infilling=None).read(0, PERIOD // 2)
    assert np.array_equal(second.input_ids[(second.input_ids == ord("b")).any(axis=1)], alone.input_ids)
