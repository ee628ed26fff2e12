"""The end of a run that a scheduler stops."""

import os
import signal
from pathlib import Path

import pytest

from codeshell_hf.errors import Interrupted, RunFailed
from codeshell_hf.train.checkpoint import Checkpoints
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.settings import CheckpointSettings
from codeshell_hf.train.stop_signal import StopSignal, stop_early
from tests.train.steps import make_run, take_step


def test_a_signal_is_recorded_and_does_not_end_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = StopSignal()
        assert not stop.is_received

        os.kill(os.getpid(), signal.SIGTERM)

        assert stop.is_received
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stopped_run_waits_for_its_checkpoint_and_says_how_to_continue(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    checkpoints.save(run)

    with pytest.raises(Interrupted, match="saved step 1 of 9; run the same command again to continue"):
        stop_early(checkpoints, 1, 9)

    assert (tmp_path / "step-00000001" / "checkpoint.json").exists()


def test_a_stopped_run_that_cannot_be_saved_fails(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, engine, CheckpointSettings())
    monkeypatch.setattr(checkpoints, "commit", lambda: False)

    with pytest.raises(RunFailed, match="step 1 of 9 could not be saved; make room and run again"):
        stop_early(checkpoints, 1, 9)
