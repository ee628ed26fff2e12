"""What runs beside a trainer: its lines, and the checks that stop it."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from codeshell_hf.align.callbacks import GradientCheck, ReportLines, RewardCheck
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
    distributed = SimpleNamespace(distributed_type=SimpleNamespace(value=kind))
    arguments = SimpleNamespace(distributed_state=distributed, world_size=2)
    GradientCheck(SimpleNamespace(model_wrapped=model)).on_train_begin(arguments, None, None)


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
    with pytest.raises(RunFailed, match=f"{key} became {value} at step 7; check that reward"):
        RewardCheck().on_log(None, state, None, {key: value})
