"""Learning rates, phases and batches, against values worked out by hand."""

import math

import pytest
from pydantic import ValidationError

from codeshell_hf.errors import SettingsError
from codeshell_hf.train.schedule import (
    Steps,
    check_epochs,
    check_phases,
    check_step_tokens,
    fit_batch,
    place_phases,
    plan_steps,
    scale_learning_rate,
)
from codeshell_hf.train.settings import BatchSettings, ScheduleSettings


def make_schedule(**changes: object) -> ScheduleSettings:
    values: dict[str, object] = {"total_tokens": 11_000, "warmup_tokens": 1000, "floor_fraction": 0.1}
    phases = [{"until_fraction": 1.0, "row_tokens": 64}]
    return ScheduleSettings.model_validate({**values, "phases": phases, **changes})


def test_learning_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    schedule = make_schedule()

    assert scale_learning_rate(schedule, 500) == pytest.approx(0.5)
    assert scale_learning_rate(schedule, 1000) == pytest.approx(1.0)
    assert scale_learning_rate(schedule, 3500) == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)  # a quarter on
    assert scale_learning_rate(schedule, 6000) == pytest.approx((1 + 0.1) / 2)
    assert scale_learning_rate(schedule, 11_000) == scale_learning_rate(schedule, 20_000) == pytest.approx(0.1)
    factors = [scale_learning_rate(schedule, tokens) for tokens in range(1000, 11_001, 100)]
    assert factors == sorted(factors, reverse=True)
    assert scale_learning_rate(make_schedule(warmup_tokens=0), 0) == 1.0


@pytest.mark.parametrize(
    ("decay", "halfway"), [("cosine", 0.55), ("linear", 0.55), ("1-sqrt", 1 - 0.9 * math.sqrt(0.5))]
)
def test_the_peak_is_held_until_the_decay(decay: str, halfway: float) -> None:
    schedule = make_schedule(decay=decay, decay_fraction=0.2)  # the last 2,200 of 11,000 tokens

    assert scale_learning_rate(schedule, 500) == pytest.approx(0.5)
    assert [scale_learning_rate(schedule, tokens) for tokens in (1000, 5000, 8800)] == [1.0, 1.0, 1.0]
    assert scale_learning_rate(schedule, 9900) == pytest.approx(halfway)
    assert scale_learning_rate(schedule, 11_000) == scale_learning_rate(schedule, 12_000) == pytest.approx(0.1)
    factors = [scale_learning_rate(schedule, tokens) for tokens in range(8800, 11_001, 100)]
    assert factors == sorted(factors, reverse=True)


def test_decay_begins_after_the_warm_up() -> None:
    # Nearly all of the run is decay: it cannot begin while the rate still rises.
    schedule = make_schedule(decay="linear", decay_fraction=0.99)

    assert scale_learning_rate(schedule, 999) == pytest.approx(0.999)
    assert scale_learning_rate(schedule, 1000) == pytest.approx(1.0)
    assert scale_learning_rate(schedule, 6000) == pytest.approx(0.55)


def test_warm_up_that_fills_the_run_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_tokens is 11000, but the run ends after 11000; set it to less"):
        make_schedule(warmup_tokens=11_000)


def test_phases_change_between_steps() -> None:
    placed = place_phases([(0.9, 2048), (1.0, 8192)], total_tokens=499_400_000_000, step_tokens=3_932_160)

    assert placed[0] == (0, 2048)
    assert placed[1][1] == 8192
    assert placed[1][0] % 3_932_160 == 0
    assert placed[1][0] == pytest.approx(0.9 * 499.4e9, rel=1e-4)


@pytest.mark.parametrize("ends", [[0.5], [1.0, 0.5], [0.5, 0.5, 1.0], []])
def test_phases_that_do_not_cover_the_run_are_refused(ends: list[float]) -> None:
    with pytest.raises(SettingsError, match="until_fraction must increase, and the last must be 1"):
        place_phases([(end, 8) for end in ends], total_tokens=100, step_tokens=10)


def test_batches_that_do_not_divide_are_rounded_to_what_does() -> None:
    assert fit_batch(64, micro_tokens=16, row_lengths=[8, 16], ranks=4) == 64
    assert fit_batch(2_500_000, micro_tokens=20480, row_lengths=[4096], ranks=128) == 2_621_440
    assert fit_batch(10, micro_tokens=16, row_lengths=[8], ranks=2) == 32
    with pytest.raises(SettingsError, match="set it to a multiple of 24"):
        fit_batch(64, micro_tokens=64, row_lengths=[24], ranks=1)


def test_a_run_resumes_with_the_batch_that_it_began_with() -> None:
    check_step_tokens(1024, 1024)
    with pytest.raises(SettingsError, match="from steps of 1,024 tokens, but this run would take 768"):
        check_step_tokens(1024, 768)


def test_more_passes_than_are_allowed_are_refused() -> None:
    check_epochs(9.0, make_schedule())
    check_epochs(2.0, make_schedule(max_epochs=2.0))
    with pytest.raises(SettingsError, match=r"which is 2\.01 passes over the shards, but schedule\.max_epochs is 2\.0"):
        check_epochs(2.01, make_schedule(max_epochs=2.0))


def test_steps_are_planned_from_the_batch_the_schedule_and_the_ranks() -> None:
    schedule = make_schedule(
        total_tokens=1000,
        warmup_tokens=0,
        phases=({"until_fraction": 0.5, "row_tokens": 8}, {"until_fraction": 1, "row_tokens": 16}),
    )

    # 100 tokens are nearest to three passes of 16 tokens on two ranks; 1000 / 96 is a little over ten.
    assert plan_steps(BatchSettings(global_tokens=100, micro_tokens=16), schedule, 2) == Steps(
        96, 11, [(0, 8), (480, 16)]
    )


def test_phases_that_have_begun_keep_their_tokens() -> None:
    before = [(0, 64), (900, 256)]

    check_phases(before, [(0, 64), (1800, 256)], tokens=900)  # the second begins with the next token
    check_phases(before, [(0, 64), (900, 256), (1000, 256)], tokens=1000)
    with pytest.raises(SettingsError, match=r"from rows of 64 from token 0, 256 from token 900, but .* places 64 from"):
        check_phases(before, [(0, 64), (1800, 256)], tokens=1000)
