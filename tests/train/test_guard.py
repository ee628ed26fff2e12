"""Which steps are skipped."""

import math

import pytest

from codeshell_hf.train.guard import Guard
from codeshell_hf.train.settings import GuardSettings


def make_guard(ratio: float | None = 5.0, warmup: int = 2) -> Guard:
    return Guard(GuardSettings(max_norm_ratio=ratio, max_skips=3, warmup_steps=warmup))


def test_spikes_and_infinite_norms_are_skipped_until_weights_are_suspect() -> None:
    guard = make_guard()

    assert guard.allows(10.0)  # no mean yet
    assert guard.allows(80.0)
    assert [guard.allows(norm) for norm in (math.inf, math.nan, 1e9)] == [False] * 3
    assert guard.wants_rollback
    assert guard.skipped == 3
    assert guard.allows(12.0)
    assert not guard.wants_rollback


def test_a_spike_is_what_exceeds_the_ratio_to_the_running_mean() -> None:
    guard = make_guard(ratio=5.0)
    for _ in range(4):
        guard.allows(2.0)

    assert guard.mean == 2.0
    assert guard.allows(9.9)
    assert guard.mean == pytest.approx(0.98 * 2.0 + 0.02 * 9.9)
    assert not guard.allows(5 * guard.mean + 0.1)
    assert not guard.allows(10 * guard.mean)


def test_norms_are_compared_after_warm_up_only_and_without_a_ratio_never() -> None:
    guard = make_guard(warmup=3)

    assert [guard.allows(norm) for norm in (1.0, 100.0, 1.0)] == [True] * 3
    assert not guard.allows(100.0)
    assert make_guard(ratio=None, warmup=0).allows(1e30)
    assert not make_guard(ratio=None, warmup=0).allows(math.inf)


def test_a_checkpoint_restores_it() -> None:
    guard, other = make_guard(), make_guard()
    for norm in (10.0, 12.0, math.nan):
        guard.allows(norm)

    other.restore(guard.state())

    assert other == guard
