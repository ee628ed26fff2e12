"""What runs beside a trainer: its lines, and the checks that stop it."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from codeshell_hf.align.callbacks import GradientCheck, IdleCheck, ReportLines, RewardCheck
from codeshell_hf.errors import RunFailed
from recipes.with_accelerate import join_ranks


def make_report(*, is_first: bool = True) -> tuple[Callable[[dict[str, float]], None], list[str]]:
    """A function that logs at step 3 of 40, and the lines that it writes."""
    written: list[str] = []
    report = ReportLines()
    report.training_bar = SimpleNamespace(write=written.append)
    state = SimpleNamespace(global_step=3, max_steps=40, is_world_process_zero=is_first)
    return lambda logs: report.on_log(None, state, None, logs), written


def test_a_report_is_one_line_above_the_bar_and_what_has_no_column_is_none() -> None:
    log, written = make_report()

    log({"loss": 1.25, "learning_rate": 1e-3, "epoch": 0.1})
    log({"train_runtime": 3.0})

    assert written == ["step      3/40 | loss  1.250 | lr 1.0e-03"]


def test_other_ranks_write_nothing() -> None:
    log, written = make_report(is_first=False)

    log({"loss": 1.25})

    assert written == []


def check_gradients(kind: str, model: object) -> None:
    accelerator = SimpleNamespace(distributed_type=SimpleNamespace(value=kind))
    # Before an Accelerator is made, accelerate's state says MULTI_GPU whatever shards.
    state = SimpleNamespace(distributed_type=SimpleNamespace(value="MULTI_GPU"))
    arguments = SimpleNamespace(distributed_state=state, world_size=2)
    trainer = SimpleNamespace(model_wrapped=model, accelerator=accelerator)
    GradientCheck(trainer).on_train_begin(arguments, None, None)


@pytest.mark.parametrize("kind", ["MULTI_CPU", "MULTI_GPU"])
def test_ranks_whose_model_is_bare_are_an_error(kind: str) -> None:
    with pytest.raises(RunFailed, match="2 processes run, but the model is a bare Linear and their gradients"):
        check_gradients(kind, nn.Linear(1, 1))


@pytest.mark.parametrize("kind", ["NO", "FSDP", "DEEPSPEED"])
def test_what_shares_gradients_in_another_way_is_not_stopped(kind: str) -> None:
    check_gradients(kind, nn.Linear(1, 1))


def test_a_wrapped_model_shares_its_gradients() -> None:
    with join_ranks():
        check_gradients("MULTI_CPU", DistributedDataParallel(nn.Linear(1, 1)))


@pytest.mark.parametrize("key", ["reward", "rewards/model/mean"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_reward_that_stops_being_a_number_stops_the_run(key: str, value: float) -> None:
    state = SimpleNamespace(global_step=7)

    RewardCheck().on_log(None, state, None, {"reward": 0.5, "rewards/model/mean": 0.1, "kl": math.nan})
    RewardCheck().on_log(None, state, None, {"reward": 0.5, "rewards/tests/mean": math.nan})  # no prompt had tests
    with pytest.raises(RunFailed, match=f"{key} became {value} at step 7; check that reward"):
        RewardCheck().on_log(None, state, None, {key: value})


def log_steps(entries: list[dict[str, float]], *, max_steps: int = 100, start: int = 0) -> int | None:
    """The step at which a run stops of which each entry is a step; at most three may teach nothing."""
    check = IdleCheck(3, 24)
    state = SimpleNamespace(global_step=start, max_steps=max_steps)
    check.on_train_begin(None, state, None)
    for entry in entries:
        state.global_step += 1
        try:
            check.on_log(None, state, None, {"completions/clipped_ratio": 0.0, "grad_norm": 0.1, **entry})
        except RunFailed:
            return int(state.global_step)
    return None


GOOD: dict[str, float] = {"reward_std": 0.2}
CUT: dict[str, float] = {"completions/clipped_ratio": 1.0}
SAME: dict[str, float] = {"reward_std": 0.0}
STILL: dict[str, float] = {"grad_norm": 0.0}


@pytest.mark.parametrize(
    ("entries", "stopped"),
    [
        ([GOOD] * 9, None),
        ([CUT] * 9, 3),
        ([SAME] * 9, 3),
        ([STILL] * 9, 3),
        ([CUT, SAME, STILL], 3),
        ([CUT, CUT, GOOD, CUT, CUT, GOOD], None),
        ([GOOD, CUT, CUT, CUT], 4),
    ],
)
def test_steps_that_teach_nothing_stop_a_run(entries: list[dict[str, float]], stopped: int | None) -> None:
    assert log_steps(entries) == stopped


def test_a_run_that_never_learned_fails_at_its_last_step_and_one_that_did_does_not() -> None:
    assert log_steps([SAME, SAME], max_steps=2) == 2
    assert log_steps([GOOD, SAME], max_steps=2) is None
    assert log_steps([SAME], max_steps=9, start=8) is None, "a resumed run learned before"


def test_an_entry_of_an_evaluation_is_no_step() -> None:
    check = IdleCheck(1, 24)

    check.on_log(None, SimpleNamespace(global_step=5, max_steps=9), None, {"eval_reward": 0.0, "eval_reward_std": 0.0})


def test_the_last_step_is_always_logged() -> None:
    control = SimpleNamespace(should_log=False)

    IdleCheck(3, 24).on_step_end(None, SimpleNamespace(global_step=8, max_steps=9), control)
    assert not control.should_log
    IdleCheck(3, 24).on_step_end(None, SimpleNamespace(global_step=9, max_steps=9), control)
    assert control.should_log
