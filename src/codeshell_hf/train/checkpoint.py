"""Checkpoints that are complete or absent: written under a temporary name while training goes on, then renamed.

`checkpoint.json`, written last, holds the hash of each file, so that a broken checkpoint is recognised and skipped.
However the model was sharded when a checkpoint was written, any engine reads it on any number of ranks.
"""

import json
import logging
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import torch.distributed as dist

from ..errors import CheckpointError
from ..manifest import hash_file, write_text
from ..precision import ComputeDtype
from .engine import Engine
from .guard import Guard
from .progress import Progress
from .schedule import check_step_tokens
from .settings import CheckpointSettings

logger = logging.getLogger(__name__)

RECORD = "checkpoint.json"
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Run:
    """A run's state outside the engine, the same on all ranks; `compute_dtype` is recorded and not read back."""

    progress: Progress
    guard: Guard
    step_tokens: int
    compute_dtype: ComputeDtype


class _State(TypedDict):
    progress: dict[str, int]
    guard: dict[str, float]
    step_tokens: int
    precision: str


class _Record(TypedDict):
    step: int
    run: _State
    files: dict[str, str]


@dataclass
class _Pending:
    """A checkpoint that is being written."""

    step: int
    temporary: Path
    hashes: "Future[dict[str, str]]"
    state: _State


class Checkpoints:
    """Writes and reads the checkpoints of a run, in a folder that all ranks share."""

    def __init__(self, folder: Path, engine: Engine, settings: CheckpointSettings) -> None:
        self.folder = folder
        self._engine = engine
        self._settings = settings
        self._pending: _Pending | None = None
        self._pool = ThreadPoolExecutor(max_workers=1)
        # The default group communicates gradients while a checkpoint is written.
        self._group = dist.new_group(backend="gloo")
        self._rank, self._ranks = dist.get_rank(), dist.get_world_size()

    def save(self, run: Run) -> None:
        """Starts to save; returns once the weights may change again."""
        step = run.progress.step
        state: _State = {
            "progress": asdict(run.progress),
            "guard": run.guard.state(),
            "step_tokens": run.step_tokens,
            "precision": run.compute_dtype,
        }
        self.commit()
        temporary = self.folder / f".step-{step:08d}"
        if self._rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        dist.barrier(self._group)
        wait = self._engine.write(temporary, self._group)

        def finish() -> dict[str, str]:
            wait()
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            return {
                path.relative_to(temporary).as_posix(): hash_file(path) for path in files[self._rank :: self._ranks]
            }

        self._pending = _Pending(step, temporary, self._pool.submit(finish), state)

    def commit(self) -> None:
        """Waits until all ranks have written the pending checkpoint, writes its record and gives it its final name."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        hashes: list[dict[str, str]] = [{} for _ in range(self._ranks)]
        dist.all_gather_object(hashes, pending.hashes.result(), group=self._group)
        if self._rank == 0:
            record: _Record = {
                "step": pending.step,
                "run": pending.state,
                "files": {name: value for one in hashes for name, value in sorted(one.items())},
            }
            write_text(pending.temporary / RECORD, json.dumps(record, indent=1))
            target = self.folder / f"step-{pending.step:08d}"
            shutil.rmtree(target, ignore_errors=True)
            pending.temporary.rename(target)
            for old in list_checkpoints(self.folder)[: -self._settings.keep]:
                step = int(old.name.removeprefix("step-"))
                if self._settings.keep_every_steps is None or step % self._settings.keep_every_steps:
                    shutil.rmtree(old)
        dist.barrier(self._group)

    def is_written(self) -> bool:
        """Whether this rank has written its part of the pending checkpoint, so that `commit` does not wait for it."""
        return self._pending is not None and self._pending.hashes.done()

    def resume(self, run: Run) -> bool:
        """Loads the newest complete checkpoint, weights and `run`; returns whether there is one.

        Raises:
            CheckpointError: If it is of another model.
            SettingsError: If its steps have another size.
        """
        state = self.load_weights()
        if state is None:
            return False
        check_step_tokens(state["step_tokens"], run.step_tokens)
        run.progress.__dict__.update(state["progress"])
        run.guard.restore(state["guard"])
        return True

    def load_weights(self) -> _State | None:
        """Loads the weights of the newest complete checkpoint; broken ones are skipped with a warning.

        Returns:
            The run's state, or `None` without a checkpoint.

        Raises:
            CheckpointError: If it is of another model.
        """
        self.commit()
        for path in reversed(list_checkpoints(self.folder)):
            try:
                record = self._check(path)
            except CheckpointError as error:
                if self._rank == 0:
                    logger.warning("%s; falling back to the checkpoint before it", error)
                continue
            self._engine.read(path, self._group)
            return record["run"]
        return None

    def _check(self, path: Path) -> _Record:
        """Checks the hashes, each rank some of the files; all ranks get the same answer."""
        record: _Record | None = None
        fault: str | None = None
        try:
            record = _read_record(path)
            names = sorted(record["files"])[self._rank :: self._ranks]
            wrong = [name for name in names if hash_file(path / name) != record["files"][name]]
            if wrong:
                fault = f"{path / wrong[0]} has another hash than when it was written: it is broken"
        except (OSError, ValueError, KeyError) as error:
            fault = f"{path} is not a complete checkpoint ({error})"
        faults: list[str | None] = [None] * self._ranks
        dist.all_gather_object(faults, fault, group=self._group)
        if record is None or any(faults):
            raise CheckpointError(next(filter(None, faults), fault))
        return record


def _read_record(path: Path) -> _Record:
    record: _Record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    return record


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, which may be missing, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
