"""Checkpoints: whole or absent, recognised when broken, resumed in full."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from codeshell_hf import CodeShellConfig
from codeshell_hf.errors import RunFailed, SettingsError
from codeshell_hf.train.checkpoint import Checkpoints, Run, list_checkpoints
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.guard import Guard
from codeshell_hf.train.progress import Progress
from codeshell_hf.train.rollback import roll_back
from codeshell_hf.train.settings import CheckpointSettings, GuardSettings, OptimizerSettings
from recipes.with_accelerate import join_ranks


@pytest.fixture
def engine(make_config: Callable[..., CodeShellConfig]) -> Iterator[Engine]:
    with join_ranks() as ranks:
        settings = OptimizerSettings(learning_rate=1e-2)
        yield make_engine(make_config(), settings, EngineOptions(seed=3), device=ranks.device)


def take_step(engine: Engine, run: Run) -> None:
    ids = torch.randint(1, 320, (2, 16))
    engine.backward(engine.module(input_ids=ids, labels=ids) / 30, is_last=True)
    norm, _ = engine.step(1.0, run.guard.allows)
    assert norm > 0
    run.progress.step += 1
    run.progress.tokens += run.step_tokens


def make_run() -> Run:
    return Run(Progress(), Guard(GuardSettings(max_skips=2, max_returns=1)), 32, "float32")


def save(checkpoints: Checkpoints, run: Run) -> None:
    checkpoints.save(run)
    checkpoints.commit()


def weights_of(engine: Engine) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in engine.model.parameters()]


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
    assert [warning.endswith("; the one before it is used") for warning in warnings] == [True]


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

    with pytest.raises(SettingsError, match="by steps of 32 tokens, but this run would take 64"):
        checkpoints.resume(Run(Progress(), Guard(), 64, "float32"))


def test_a_rollback_loads_older_weights_keeps_the_progress_and_is_allowed_so_often(
    engine: Engine, tmp_path: Path
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    saved = weights_of(engine)
    take_step(engine, run)
    run.guard.skipped_in_a_row = 2

    roll_back(checkpoints, run.guard, run.progress, 7.5)

    assert all(torch.equal(found, wanted) for found, wanted in zip(weights_of(engine), saved, strict=True))
    assert run.progress == Progress(step=2, tokens=64, rollbacks=1)
    assert not run.guard.wants_rollback
    run.guard.skipped_in_a_row = 2
    with pytest.raises(RunFailed, match=r"2 steps in a row were skipped by step 2, the last for a norm of 7\.5"):
        roll_back(checkpoints, run.guard, run.progress, 7.5)


def test_without_a_checkpoint_there_is_no_rollback(engine: Engine, tmp_path: Path) -> None:
    run = make_run()
    with pytest.raises(RunFailed, match="run again"):
        roll_back(Checkpoints(tmp_path, engine, CheckpointSettings()), run.guard, run.progress, 1.0)
