"""Lines out of a trainer's log."""

import logging
import math

import pytest

from codeshell_hf.align.training_log import (
    check_losses,
    describe_rewards,
    first_value,
    format_entry,
    last_entry,
    quiet_logs,
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
    assert describe_rewards(HISTORY[1]) == "in the last batches reward 0.500, KL (nats per token) 0.010"
    assert describe_rewards({}) == "nothing was logged"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(loss: float) -> None:
    check_losses(HISTORY)
    with pytest.raises(RunFailed, match="the loss is no longer finite"):
        check_losses([*HISTORY, {"loss": loss}])


def test_warnings_that_are_taken_care_of_are_not_shown_and_others_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("trl.trainer.sft_trainer")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "propagate", True)
    quiet_logs()

    logger.warning("You are using padding-free training without Flash Attention")
    logger.warning("the learning rate is negative")

    assert [record.getMessage() for record in caplog.records] == ["the learning rate is negative"]
