"""Going back to older weights."""

from pathlib import Path

import pytest
import torch

from codeshell_hf.errors import RunFailed
from codeshell_hf.train.checkpoint import Checkpoints
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.rollback import roll_back
from codeshell_hf.train.run_log import Progress
from codeshell_hf.train.settings import CheckpointSettings
from tests.train.steps import make_run, save, take_step, weights_of

ALONE = Ranks(torch.device("cpu"), 0, 1)


def test_a_rollback_loads_older_weights_keeps_the_progress_and_is_allowed_so_often(
    engine: Engine, tmp_path: Path
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    saved = weights_of(engine)
    take_step(engine, run)
    run.guard.skipped_in_a_row = 2

    roll_back(checkpoints, run.guard, run.progress, 7.5, ALONE)

    assert all(torch.equal(found, wanted) for found, wanted in zip(weights_of(engine), saved, strict=True))
    assert run.progress == Progress(step=2, tokens=64, rollbacks=1)
    assert not run.guard.wants_rollback
    run.guard.skipped_in_a_row = 2
    with pytest.raises(RunFailed, match=r"2 steps in a row were skipped by step 2, the last with a norm of 7\.5"):
        roll_back(checkpoints, run.guard, run.progress, 7.5, ALONE)


def test_without_a_checkpoint_there_is_no_rollback(engine: Engine, tmp_path: Path) -> None:
    run = make_run()
    with pytest.raises(RunFailed, match="run again"):
        roll_back(Checkpoints(tmp_path, engine, CheckpointSettings()), run.guard, run.progress, 1.0, ALONE)
