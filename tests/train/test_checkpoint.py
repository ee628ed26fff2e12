"""Checkpoints: whole or absent, recognised when broken, resumed in full."""

import json
from pathlib import Path

import pytest
import torch

from codeshell_hf.errors import SettingsError
from codeshell_hf.train.checkpoint import Checkpoints, Run, list_checkpoints
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.guard import Guard
from codeshell_hf.train.progress import Progress
from codeshell_hf.train.settings import CheckpointSettings
from tests.train.steps import make_run, save, take_step, weights_of


def test_a_resumed_run_has_the_weights_moments_rng_and_counts_that_were_saved(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    take_step(engine, run)
    expected = weights_of(engine)

    resumed = make_run()
    assert checkpoints.resume(resumed)
    assert (resumed.progress, resumed.guard.taken) == (Progress(1, 32), 1)
    take_step(engine, resumed)  # on the same random tokens, with the same moments

    assert all(torch.equal(found, wanted) for found, wanted in zip(weights_of(engine), expected, strict=True))
    assert resumed == run


def test_without_a_checkpoint_nothing_changes(engine: Engine, tmp_path: Path) -> None:
    assert not Checkpoints(tmp_path / "none", engine, CheckpointSettings()).resume(make_run())


@pytest.mark.parametrize("fault", ["changed", "missing", "unrecorded", "garbage"])
def test_a_broken_checkpoint_is_skipped_for_the_one_before_it(
    engine: Engine, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    for _ in range(2):
        take_step(engine, run)
        save(checkpoints, run)
    last = tmp_path / "step-00000002"
    shard = next(last.glob("*.distcp"))
    if fault == "changed":
        shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    elif fault == "missing":
        shard.unlink()
    elif fault == "unrecorded":
        (last / "checkpoint.json").unlink()
    else:
        (last / "checkpoint.json").write_text("{")

    resumed = make_run()
    assert checkpoints.resume(resumed)

    assert resumed.progress.step == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning.endswith("; falling back to the checkpoint before it") for warning in warnings] == [True]


def test_the_last_are_kept_and_multiples_for_good(engine: Engine, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, engine, CheckpointSettings(keep=2, keep_every_steps=3))
    run = make_run()
    for _ in range(7):
        take_step(engine, run)
        save(checkpoints, run)

    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-{step:08d}" for step in (3, 6, 7)]


def test_a_checkpoint_without_its_final_name_is_none(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)

    checkpoints.save(run)  # and killed before its record is written

    assert list_checkpoints(tmp_path) == []
    checkpoints.commit()
    record = json.loads((tmp_path / "step-00000001" / "checkpoint.json").read_text())
    assert record["step"] == 1
    assert sorted(record["files"]) == sorted(
        path.name for path in (tmp_path / "step-00000001").iterdir() if path.name != "checkpoint.json"
    )


def test_another_batch_size_is_refused(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    save(checkpoints, run)

    with pytest.raises(SettingsError, match="from steps of 32 tokens, but this run would take 64"):
        checkpoints.resume(Run(Progress(), Guard(), 64, "float32"))
