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
from tests.train.steps import make_run, save, take_step


def test_a_signal_is_recorded_and_does_not_end_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = StopSignal()
        assert not stop.is_received

        os.kill(os.getpid(), signal.SIGTERM)

        assert stop.is_received
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("is_saving", [True, False])
def test_a_stopped_run_is_saved_and_says_how_to_continue(engine: Engine, tmp_path: Path, *, is_saving: bool) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    if is_saving:
        checkpoints.save(run)

    with pytest.raises(Interrupted, match="saved step 1 of 9; run the same command again to continue"):
        stop_early(checkpoints, run, 9)

    assert (tmp_path / "step-00000001" / "checkpoint.json").exists()


def test_a_stopped_run_that_cannot_be_saved_fails(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checkpoints, run = Checkpoints(tmp_path / "file", engine, CheckpointSettings()), make_run()
    take_step(engine, run)

    with pytest.raises(RunFailed, match="step 1 of 9 could not be saved; make room and run again"):
        stop_early(checkpoints, run, 9)


def test_before_the_end_of_the_first_step_there_is_nothing_to_save(engine: Engine, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, engine, CheckpointSettings())

    with pytest.raises(Interrupted, match="stopped before the end of the first step; run the same command again"):
        stop_early(checkpoints, make_run(), 9)

    assert not list(tmp_path.iterdir())


def test_a_stop_before_the_first_step_after_resuming_leaves_the_loaded_checkpoint_as_it_is(
    engine: Engine, tmp_path: Path
) -> None:
    first, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(first, run)
    record = tmp_path / "step-00000001" / "checkpoint.json"
    before = record.stat()

    second, resumed = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    assert second.resume(resumed)
    with pytest.raises(Interrupted, match="saved step 1 of 9; run the same command again to continue"):
        stop_early(second, resumed, 9)

    after = record.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
