"""Checkpoints: whole or absent, recognised when broken, resumed in full."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from codeshell_hf.errors import CheckpointError, RunFailed, SettingsError
from codeshell_hf.train import checkpoint
from codeshell_hf.train.checkpoint import Checkpoints, Run, list_checkpoints
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.guard import Guard
from codeshell_hf.train.run_log import Progress
from codeshell_hf.train.schedule import Steps
from codeshell_hf.train.settings import CheckpointSettings
from tests.train.steps import make_run, save, take_step, weights_of


def test_a_resumed_run_has_the_weights_moments_and_counts_that_were_saved(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    take_step(engine, run)
    expected = weights_of(engine)

    resumed = make_run()
    assert checkpoints.resume(resumed)
    assert (resumed.progress, resumed.guard.taken) == (Progress(1, 32), 1)
    take_step(engine, resumed)  # with the same moments

    assert all(torch.equal(found, wanted) for found, wanted in zip(weights_of(engine), expected, strict=True))
    assert resumed == run
    assert isinstance(resumed.guard.taken, int)


def test_without_a_checkpoint_nothing_changes(engine: Engine, tmp_path: Path) -> None:
    assert not Checkpoints(tmp_path / "none", engine, CheckpointSettings()).resume(make_run())


RECORDS = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '{"step": 2}',
    "no files",
    "other files",
    "more digits",
    "a step of text",
    "\udcff",
]


@pytest.mark.parametrize("fault", ["changed", "missing", "unrecorded", "a folder", *RECORDS])
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
    elif fault in ("unrecorded", "a folder"):
        (last / "checkpoint.json").unlink()
        if fault == "a folder":
            (last / "checkpoint.json").mkdir()
    else:
        spoil(last / "checkpoint.json", fault)

    resumed = make_run()
    assert checkpoints.resume(resumed)

    assert resumed.progress.step == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    (warning,) = warnings
    assert warning.endswith("; it is renamed to broken-step-00000002")
    assert "\n" not in warning
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken-step-00000002", "step-00000001"]


def spoil(record: Path, fault: str) -> None:
    """Writes another text into a record, or changes one of its fields."""
    values = json.loads(record.read_text())
    name, digits = next(iter(values["files"].items()))
    changes = {
        "no files": {"files": {}},
        "other files": {"files": {"../step-00000001/.metadata": digits}},
        "more digits": {"files": values["files"] | {name: digits + "0"}},
        "a step of text": {"step": "2"},
        "another step": {"step": 1},
        "no progress": {"run": values["run"] | {"guard": {}}},
    }
    text = json.dumps(values | changes[fault]) if fault in changes else fault
    record.write_bytes(text.encode(errors="surrogateescape"))


def test_a_broken_checkpoint_takes_no_place_of_one_that_is_kept(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings(keep=2)), make_run()
    for _ in range(2):
        take_step(engine, run)
        save(checkpoints, run)
    (tmp_path / "step-00000002" / "checkpoint.json").unlink()
    (tmp_path / "step-00000007").write_text("a file is no checkpoint")
    resumed = make_run()
    assert checkpoints.resume(resumed)

    for _ in range(2):  # steps 2 and 3; with the broken one counted, step 1 would go at the first
        assert "step-00000001" in [path.name for path in list_checkpoints(tmp_path)]
        take_step(engine, resumed)
        save(checkpoints, resumed)

    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("name", ["checkpoint.json", "*.distcp"])
def test_a_checkpoint_that_loses_a_file_while_the_run_goes_on_is_not_counted(
    engine: Engine, tmp_path: Path, name: str
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings(keep=2)), make_run()
    for step in (1, 2, 3):
        take_step(engine, run)
        save(checkpoints, run)
        if step == 2:
            next((tmp_path / "step-00000002").glob(name)).unlink()

    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-{step:08d}" for step in (1, 2, 3)]


def test_weights_do_not_change_before_they_are_copied(engine: Engine, tmp_path: Path) -> None:
    """A stand-in for the copy to pinned memory, which only a GPU has."""
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    before, copied = weights_of(engine), list[bool]()

    def wait() -> None:
        copied.append(all(torch.equal(one, other) for one, other in zip(weights_of(engine), before, strict=True)))

    engine._staged = wait
    take_step(engine, run)

    assert copied == [True]
    assert not torch.equal(weights_of(engine)[0], before[0])
    save(checkpoints, run)


def test_a_checkpoint_that_cannot_be_read_now_is_not_called_broken(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    save(checkpoints, run)

    def fail(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoint, "hash_file", fail)
    with pytest.raises(CheckpointError, match=r"step-00000000 cannot be read .*Input/output error.*; run again"):
        checkpoints.resume(make_run())
    monkeypatch.undo()

    assert [path.name for path in tmp_path.iterdir()] == ["step-00000000"]
    assert checkpoints.resume(make_run())


def test_what_cannot_be_deleted_loses_no_checkpoint(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings(keep=1)), make_run()
    save(checkpoints, run)
    remove = shutil.rmtree

    def fail(path: Path, **more: bool) -> None:
        if path.name == "step-00000000":
            raise OSError(errno.EBUSY, "Device or resource busy")
        remove(path, **more)

    monkeypatch.setattr(shutil, "rmtree", fail)
    take_step(engine, run)
    checkpoints.save(run)

    assert checkpoints.commit()
    assert "step-00000000 cannot be deleted (Device or resource busy)" in caplog.text
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000000", "step-00000001"]


# The ranks of a run, of which the second has no room at its second save.
RANKS = """
import sys
from pathlib import Path
import torch.distributed as dist
from codeshell_hf.train import checkpoint
from codeshell_hf.train.checkpoint import Checkpoints, list_checkpoints
from codeshell_hf.train.settings import CheckpointSettings
from tests.train.steps import make_run

rank, home = int(sys.argv[1]), Path(sys.argv[2])

class Writer:
    saves = 0
    def write(self, folder, group):
        self.saves += 1
        def wait():
            if rank == 1 and self.saves == 2:
                raise OSError(28, "No space left on device")
            (folder / f"shard-{rank}").write_text("weights")
        return wait

dist.init_process_group("gloo", init_method=f"file://{home}/store", rank=rank, world_size=2)
checkpoints, run = Checkpoints(home / "checkpoints", Writer(), CheckpointSettings()), make_run()
saved = []
for step in range(3):
    run.progress.step = step
    checkpoints.save(run)
    saved.append(checkpoints.commit())
print(saved, [path.name for path in list_checkpoints(home / "checkpoints")])
dist.barrier()
dist.destroy_process_group()
"""


def test_all_ranks_drop_a_save_that_one_of_them_could_not_write(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANKS, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for rank in range(2)
    ]  # fmt: skip

    found = [process.communicate(timeout=600) for process in processes]

    assert [printed.strip() for printed, _ in found] == ["[True, False, True] ['step-00000000', 'step-00000002']"] * 2
    assert "the checkpoint of step 1 cannot be written ([Errno 28] No space left on device)" in found[0][1]
    assert "cannot be written" not in found[1][1]


def test_where_all_are_broken_nothing_starts_over_by_itself(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    for _ in range(2):
        take_step(engine, run)
        save(checkpoints, run)
    records = [(path, (path / "checkpoint.json").read_text()) for path in list_checkpoints(tmp_path)]
    for path, _ in records:
        (path / "checkpoint.json").unlink()

    for _ in range(2):  # the second try finds them renamed
        with pytest.raises(CheckpointError, match=r"every checkpoint in .* is broken; restore"):
            Checkpoints(tmp_path, engine, CheckpointSettings()).resume(make_run())

    path, text = records[-1]
    aside = tmp_path / f"broken-{path.name}"
    (aside / "checkpoint.json").write_text(text)
    aside.rename(path)
    resumed = make_run()
    assert checkpoints.resume(resumed)
    assert resumed.progress.step == 2


@pytest.mark.parametrize(
    "error", [KeyError(type), RuntimeError("shape '[3]' is invalid"), torch.OutOfMemoryError("no")]
)
def test_a_save_that_fails_twice_and_not_for_the_disk_stops_the_run(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)

    def fail() -> None:
        raise error

    def save_again() -> bool:
        take_step(engine, run)
        checkpoints.save(run)
        return checkpoints.commit()

    write = engine.write
    monkeypatch.setattr(engine, "write", lambda folder, group: fail)
    assert not save_again()
    monkeypatch.setattr(engine, "write", write)
    assert save_again()
    monkeypatch.setattr(engine, "write", lambda folder, group: fail)
    assert not save_again()
    with pytest.raises(RunFailed, match=re.escape(f"cannot be written ({type(error).__name__}: {error}), nor")):
        save_again()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


def test_a_disk_that_stays_full_does_not_stop_a_run(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "write", lambda folder, group: fail)
    for _ in range(3):
        take_step(engine, run)
        checkpoints.save(run)
        assert not checkpoints.commit()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size")
def test_a_save_that_the_disk_does_not_hold_is_dropped_and_the_run_goes_on(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    take_step(engine, run)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as on a full disk, writing fails halfway
    try:
        for _ in range(3):  # however long it stays full
            checkpoints.save(run)
            assert not checkpoints.commit()
            take_step(engine, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning.partition(" cannot be written (")[0] for warning in warnings] == [
        f"the checkpoint of step {step}" for step in (2, 3, 4)
    ]
    assert all(warning.endswith("); the run goes on without it") for warning in warnings)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    save(checkpoints, run)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001", "step-00000005"]


def test_a_lower_learning_rate_holds_after_resuming(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    for group in engine.optimizers[0].param_groups:
        group["peak"] = 0.0  # as an engine of other settings has it

    checkpoints.resume(make_run())
    before = weights_of(engine)
    take_step(engine, run)

    assert all(torch.equal(found, wanted) for found, wanted in zip(weights_of(engine), before, strict=True))


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
        checkpoints.resume(Run(Progress(), Guard(), Steps(tokens=64, count=100, phases=[(0, 16)]), "float32"))


def make_decaying(count: int, decay_start: int, *, phases: int = 1) -> Run:
    """A run of steps of 32 tokens with a decay at its end."""
    starts = [(number * 32, 16) for number in range(phases)]
    run, steps = make_run(), Steps(tokens=32, count=count, phases=starts, decay_start=decay_start)
    return Run(run.progress, run.guard, steps, run.compute_dtype)


def save_steps(engine: Engine, folder: Path, run: Run, *steps: int) -> None:
    checkpoints = Checkpoints(folder, engine, CheckpointSettings(keep=9))
    while run.progress.step < max(steps):
        take_step(engine, run)
        if run.progress.step in steps:
            save(checkpoints, run)


def test_a_longer_run_goes_back_to_before_the_decay(engine: Engine, tmp_path: Path) -> None:
    save_steps(engine, tmp_path, make_decaying(4, 64), 1, 2, 3, 4)
    same, longer = make_decaying(4, 64), make_decaying(8, 192)

    assert Checkpoints(tmp_path, engine, CheckpointSettings()).resume(same)
    assert same.progress.step == 4
    with pytest.raises(SettingsError, match=r"but schedule\.phases now places"):  # refused, and nothing renamed
        Checkpoints(tmp_path, engine, CheckpointSettings()).resume(make_decaying(8, 192, phases=2))
    assert len(list_checkpoints(tmp_path)) == 4
    assert Checkpoints(tmp_path, engine, CheckpointSettings()).resume(longer)

    assert longer.progress.step == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"decayed-step-{n:08d}" for n in (3, 4)] + [f"step-{n:08d}" for n in (1, 2)]


def test_a_run_of_which_only_the_decay_is_left_or_that_would_be_shorter_is_refused(
    engine: Engine, tmp_path: Path
) -> None:
    save_steps(engine, tmp_path, make_decaying(4, 64), 3, 4)

    with pytest.raises(CheckpointError, match="is from the decay of a shorter run, and none from before it"):
        Checkpoints(tmp_path, engine, CheckpointSettings()).resume(make_decaying(8, 192))
    with pytest.raises(SettingsError, match="ends at step 3, but the checkpoint is from step 4; set more"):
        Checkpoints(tmp_path, engine, CheckpointSettings()).resume(make_decaying(3, 64))
    assert len(list_checkpoints(tmp_path)) == 2


def test_the_last_checkpoint_before_the_decay_is_due_and_kept(engine: Engine, tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings(every_steps=4, keep=1), peak=2), make_run()
    for _ in range(4):
        take_step(engine, run)
        if checkpoints.is_due(run.progress.step):
            save(checkpoints, run)

    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000004"]


def test_checkpoints_are_due_at_multiples_of_their_interval(engine: Engine, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, engine, CheckpointSettings(every_steps=4))

    assert [step for step in range(1, 10) if checkpoints.is_due(step)] == [4, 8]


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("renames", [1, 2])
def test_a_kill_while_a_checkpoint_is_replaced_loses_none(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Before the first rename, and between the two: the old one is still there, and is loaded."""
    checkpoints, run = Checkpoints(tmp_path, engine, CheckpointSettings()), make_run()
    take_step(engine, run)
    save(checkpoints, run)
    weights, made = weights_of(engine), []
    rename = Path.rename

    def kill(path: Path, target: Path) -> Path:
        made.extend([path] if path.parent == tmp_path else [])
        if len(made) == renames:
            raise _Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", kill)
    with pytest.raises(_Killed):
        save(checkpoints, run)
    monkeypatch.undo()
    take_step(engine, run)

    resumed = make_run()
    assert Checkpoints(tmp_path, engine, CheckpointSettings()).resume(resumed)
    assert resumed.progress.step == 1
    assert all(torch.equal(one, other) for one, other in zip(weights_of(engine), weights, strict=True))
    assert [path.name for path in tmp_path.iterdir() if "replaced" in path.name] == []
