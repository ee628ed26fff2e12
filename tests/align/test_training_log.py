"""Lines out of a trainer's log, and runs that must stop."""

import math
from types import SimpleNamespace

import pytest

from codeshell_hf.align.callbacks import GradientCheck, RewardCheck
from codeshell_hf.align.training_log import (
    check_losses,
    describe_rewards,
    first_value,
    format_entry,
    last_entry,
)
from codeshell_hf.errors import RunFailed

HISTORY = [{"loss": 2.0, "eval_loss": 5.0}, {"reward": 0.5, "kl": 0.01}, {"eval_loss": 4.0}]


def test_a_trainers_report_is_one_line() -> None:
    logs: dict[str, float | str] = {"loss": "2.365", "learning_rate": "0.00095", "entropy": "2.74", "epoch": 0.5}

    assert format_entry(40, 180, logs) == "step     40/180 | loss  2.365 | lr 9.5e-04"
    assert format_entry(180, 180, {"train_runtime": 3.0}) == ""


def test_values_are_looked_up_in_the_log() -> None:
    assert first_value(HISTORY, "eval_loss") == 5.0
    assert last_entry(HISTORY, "eval_loss") == {"eval_loss": 4.0}
    assert last_entry(HISTORY, "tokens") == {}
    assert describe_rewards(HISTORY[1]) == "in the last batches reward 0.500, KL (nats a token) 0.010"
    assert describe_rewards({}) == "nothing was logged"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(loss: float) -> None:
    check_losses(HISTORY)
    with pytest.raises(RunFailed, match="the loss became something that is not a number"):
        check_losses([*HISTORY, {"loss": loss}])


def test_a_reward_that_stops_being_a_number_stops_the_run() -> None:
    state = SimpleNamespace(global_step=7)
    check = RewardCheck()

    check.on_log(None, state, None, {"reward": 0.5, "rewards/model/mean": 0.1, "kl": math.nan})
    for key in ("reward", "rewards/model/mean"):
        with pytest.raises(RunFailed, match=f"{key} became nan at step 7; look at that reward"):
            check.on_log(None, state, None, {key: math.nan})


@pytest.mark.parametrize(("kind", "stops"), [("MULTI_CPU", True), ("MULTI_GPU", True), ("NO", False), ("FSDP", False)])
def test_ranks_whose_model_is_bare_are_an_error(kind: str, stops: bool) -> None:
    distributed = SimpleNamespace(distributed_type=SimpleNamespace(value=kind))
    arguments = SimpleNamespace(distributed_state=distributed, world_size=2)
    check = GradientCheck(SimpleNamespace(model_wrapped=object()))

    if not stops:
        check.on_train_begin(arguments, None, None)
        return
    with pytest.raises(RunFailed, match="2 processes run, but the model is a bare object and their gradients"):
        check.on_train_begin(arguments, None, None)
