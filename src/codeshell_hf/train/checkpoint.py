"""Checkpoints that are complete or absent: written under a temporary name while training goes on, then renamed.

`checkpoint.json`, written last, holds the hash of each file, so that a broken checkpoint is recognised. It is renamed
to `broken-step-*`, where it is neither loaded nor counted among those that are kept. However the model was sharded when
a checkpoint was written, any engine reads it on any number of ranks.
"""

import logging
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.distributed.checkpoint.api import CheckpointException

from ..errors import CheckpointError, RunFailed, SettingsError
from ..manifest import hash_file, write_text
from ..precision import ComputeDtype
from .engine import Engine
from .guard import Guard
from .ranks import WRITING_TIMEOUT
from .run_log import Progress
from .schedule import Steps, check_phases, check_step_tokens
from .settings import CheckpointSettings

logger = logging.getLogger(__name__)

RECORD = "checkpoint.json"
_REPLACED = ".replaced-"  # begins the name of a checkpoint while another one takes its place
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Run:
    """A run's state outside the engine, the same on all ranks.

    `compute_dtype` is recorded and not read back; `steps` is compared.
    """

    progress: Progress
    guard: Guard
    steps: Steps
    compute_dtype: ComputeDtype


class _GuardState(BaseModel):
    model_config = ConfigDict(strict=True)

    mean: float
    taken: int
    skipped: int
    skipped_in_a_row: int


class _RunState(BaseModel):
    model_config = ConfigDict(strict=True)

    progress: Progress
    guard: _GuardState
    step_tokens: int
    precision: ComputeDtype
    phases: list[tuple[int, int]] | None = None  # not in older checkpoints
    decay_start: int | None = None


class _CheckpointRecord(BaseModel):
    model_config = ConfigDict(strict=True)

    step: int
    run: _RunState
    files: dict[str, str] = Field(min_length=1)


class _BrokenCheckpoint(CheckpointError):
    """Files are missing or changed, or there is no record of them."""


@dataclass(frozen=True)
class _WrittenFiles:
    """What a rank has written of a checkpoint: the hash of each file, or why it could not."""

    hashes: dict[str, str]
    fault: str | None = None
    is_of_disk: bool = False


@dataclass
class _Pending:
    """A checkpoint that is being written."""

    step: int
    temporary: Path
    written: "Future[_WrittenFiles]"
    state: _RunState


class Checkpoints:
    """Writes and reads the checkpoints of a run, in a folder that all ranks share.

    Args:
        peak: The last step before a decay, which is saved and kept: from there the run can be extended.
    """

    def __init__(self, folder: Path, engine: Engine, settings: CheckpointSettings, *, peak: int | None = None) -> None:
        self.folder = folder
        self.peak = peak
        self._engine = engine
        self._settings = settings
        self.last_step: int | None = None  # the newest that was saved or loaded, or whose saving has begun
        self._pending: _Pending | None = None
        self._fault: str | None = None  # why the last one could not be written, if not for the disk
        self._pool = ThreadPoolExecutor(max_workers=1)
        # The default group communicates gradients while a checkpoint is written.
        self._group = dist.new_group(backend="gloo", timeout=WRITING_TIMEOUT)
        self._rank, self._ranks = dist.get_rank(), dist.get_world_size()

    def save(self, run: Run) -> None:
        """Starts to save; returns once the weights may change again."""
        step = run.progress.step
        state = _RunState(
            progress=replace(run.progress),
            guard=_GuardState.model_validate(run.guard.state()),
            step_tokens=run.steps.tokens,
            precision=run.compute_dtype,
            phases=run.steps.phases,
            decay_start=run.steps.decay_start,
        )
        self.commit()
        temporary = self.folder / f".step-{step:08d}"
        fault = None
        if self._rank == 0:
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            except OSError as error:
                fault = str(error)
        faults: list[str | None] = [fault]
        dist.broadcast_object_list(faults, group=self._group)
        if faults[0] is not None:
            self._drop(step, temporary, faults[0])
            return
        wait = self._engine.write(temporary, self._group)
        self.last_step = step

        def finish() -> _WrittenFiles:
            try:
                wait()
                files = sorted(path for path in temporary.rglob("*") if path.is_file())[self._rank :: self._ranks]
                return _WrittenFiles({path.relative_to(temporary).as_posix(): hash_file(path) for path in files})
            except (Exception, CheckpointException) as error:  # the latter is not an Exception
                cause = _find_cause(error)
                is_of_disk = _is_of_disk(cause)
                return _WrittenFiles({}, str(cause) if is_of_disk else f"{type(cause).__name__}: {cause}", is_of_disk)

        self._pending = _Pending(step, temporary, self._pool.submit(finish), state)

    def commit(self) -> bool:
        """Waits until all ranks have written the pending checkpoint, writes its record and gives it its final name.

        Returns:
            `False` if it could not be written, on a full disk for example. It is then dropped on all ranks, with a
            warning; the checkpoint before it is kept, and the run can continue.

        Raises:
            RunFailed: If it failed as the one before did, and not with an error of the disk: each later one would, too.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return True
        written = [_WrittenFiles({}) for _ in range(self._ranks)]
        dist.all_gather_object(written, pending.written.result(), group=self._group)
        failed = [one for one in written if one.fault is not None]
        failed.sort(key=lambda one: one.is_of_disk)
        fault = failed[0].fault if failed else None
        before, self._fault = self._fault, None if not failed or failed[0].is_of_disk else fault
        if self._fault is not None and self._fault == before:
            if self._rank == 0:
                shutil.rmtree(pending.temporary, ignore_errors=True)
            raise RunFailed(
                f"the checkpoint of step {pending.step} and that before it cannot be written ({fault}), nor can later "
                "ones; the run stops. It is not the disk: report this with what `codeshell --version` prints"
            )
        if self._rank == 0 and fault is None:
            files = {name: value for one in written for name, value in sorted(one.hashes.items())}
            try:
                record = _CheckpointRecord(step=pending.step, run=pending.state, files=files)
                write_text(pending.temporary / RECORD, record.model_dump_json(indent=1))
                target = self.folder / f"step-{pending.step:08d}"
                _replace(pending.temporary, target)
            except (OSError, ValueError) as error:
                fault = str(error)
            else:
                self._delete_old()
        faults: list[str | None] = [fault]
        dist.broadcast_object_list(faults, group=self._group)
        if faults[0] is not None:
            self._drop(pending.step, pending.temporary, faults[0])
        return faults[0] is None

    def _drop(self, step: int, temporary: Path, fault: str) -> None:
        self.last_step = None
        if self._rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            logger.warning("the checkpoint of step %d cannot be written (%s); the run goes on without it", step, fault)

    def _delete_old(self) -> None:
        whole = [path for path in list_checkpoints(self.folder) if _has_all_files(path)]
        for old in whole[: -self._settings.keep]:
            step = int(old.name.removeprefix("step-"))
            every = self._settings.keep_every_steps
            if step != self.peak and (every is None or step % every):
                try:
                    shutil.rmtree(old)
                except OSError as error:
                    logger.warning("%s cannot be deleted (%s); it takes up space", old, error.strerror)

    def is_due(self, step: int) -> bool:
        """Whether the settings want a checkpoint after this step."""
        return step % self._settings.every_steps == 0 or step == self.peak

    def is_written(self) -> bool:
        """Whether this rank has written its part of the pending checkpoint, so that `commit` does not wait for it."""
        return self._pending is not None and self._pending.written.done()

    def resume(self, run: Run) -> bool:
        """Loads the newest complete checkpoint, weights and `run`; returns whether there is one.

        Raises:
            CheckpointError: If it is of another model.
            SettingsError: If its steps have another size, the phases that it has begun other places, or the run is
                shorter.
        """
        state = self.load_weights(lambda state: _continues(state, run.steps))
        if state is None:
            return False
        run.progress.__dict__.update(state.progress.__dict__)
        run.guard.restore(state.guard.model_dump())
        return True

    def load_weights(self, is_usable: Callable[[_RunState], bool] = lambda state: True) -> _RunState | None:
        """Loads the weights of the newest complete checkpoint; broken ones are renamed, with a warning.

        Args:
            is_usable: Checkpoints that are not are renamed to `decayed-step-*`, once an older one is. It may raise.

        Returns:
            The run's state, or `None` without a checkpoint.

        Raises:
            CheckpointError: If it is of another model, or all are broken.
        """
        self.commit()
        if self._rank == 0:
            _restore_replaced(self.folder)
        dist.barrier(self._group)
        found, unusable = list_checkpoints(self.folder), list[Path]()
        for path in reversed(found):
            try:
                record = self._check(path)
            except _BrokenCheckpoint as error:
                if self._rank == 0:
                    self._rename_broken(path, error)
                continue
            if not is_usable(record.run):
                unusable.append(path)
                continue
            for decayed in unusable if self._rank == 0 else ():
                decayed.rename(decayed.with_name(f"decayed-{decayed.name}"))
            self._engine.read(path, self._group)
            self.last_step = record.step
            return record.run
        dist.barrier(self._group)  # the first rank has renamed
        if unusable:
            raise CheckpointError(
                f"every checkpoint in {self.folder} is from the decay of a shorter run, and none from before it; "
                f"set output to another folder, or remove {self.folder} to start over"
            )
        if found or any(self.folder.glob("broken-step-*")):
            raise CheckpointError(
                f"every checkpoint in {self.folder} is broken; restore the files of one and rename it from "
                f"broken-step-* to step-*, or remove {self.folder} to start over"
            )
        return None

    @staticmethod
    def _rename_broken(path: Path, error: _BrokenCheckpoint) -> None:
        renamed = path.with_name(f"broken-{path.name}")
        try:
            shutil.rmtree(renamed, ignore_errors=True)
            path.rename(renamed)
        except OSError as failure:
            logger.warning("%s; it cannot be renamed (%s)", error, failure.strerror)
        else:
            logger.warning("%s; it is renamed to %s", error, renamed.name)

    def _check(self, path: Path) -> _CheckpointRecord:
        """Checks the hashes, each rank some of the files; all ranks get the same answer.

        Raises:
            CheckpointError: If a file cannot be read; such a checkpoint may be complete.
        """
        record: _CheckpointRecord | None = None
        fault: tuple[str, bool] | None = None  # and whether the checkpoint is broken
        try:
            record = _read_record(path)
            names = sorted(record.files)[self._rank :: self._ranks]
            if wrong := [name for name in names if hash_file(path / name) != record.files[name]]:
                fault = (f"{path / wrong[0]} has another hash than when it was written: it is broken", True)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as error:
            fault = (f"{path} is not a complete checkpoint ({_shorten(error)})", True)
        except OSError as error:
            fault = (f"{path} cannot be read ({_shorten(error)}); run again once it can", False)
        faults: list[tuple[str, bool] | None] = [None] * self._ranks
        dist.all_gather_object(faults, fault, group=self._group)
        if first := min(filter(None, faults), key=lambda one: one[1], default=None):
            raise (_BrokenCheckpoint if first[1] else CheckpointError)(first[0])
        return cast(_CheckpointRecord, record)


def _continues(state: _RunState, steps: Steps) -> bool:
    """Whether a run continues from a checkpoint; not from the decay of a shorter run: it goes back to the peak.

    Raises:
        SettingsError: If the run has steps of another size, ends before, or places phases that have begun elsewhere.
    """
    check_step_tokens(state.step_tokens, steps.tokens)
    if state.decay_start not in (None, steps.decay_start) and state.progress.tokens > state.decay_start:
        return False
    if state.progress.step > steps.count:
        raise SettingsError(
            f"schedule.total_tokens ends at step {steps.count}, but the checkpoint is from step "
            f"{state.progress.step}; set more, or set output to another folder"
        )
    if state.phases is not None:
        check_phases(state.phases, steps.phases, tokens=state.progress.tokens)
    return True


def _read_record(path: Path) -> _CheckpointRecord:
    try:
        record = _CheckpointRecord.model_validate_json((path / RECORD).read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the record"
        raise ValueError(f"{RECORD}: {place}: {fault['msg']}") from error
    if outside := [name for name in record.files if "/" in name.replace("\\", "/")]:
        raise ValueError(f"{RECORD} names {outside[0]!r}, which is in another folder")
    if f"step-{record.step:08d}" != path.name:
        raise ValueError(f"{RECORD} is of step {record.step}")
    return record


def _replace(new: Path, target: Path) -> None:
    """Renames a folder; an older one of that name is deleted only once the new one has it."""
    aside = target.with_name(_REPLACED + target.name)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _restore_replaced(folder: Path) -> None:
    """Renames checkpoints back that a kill has left aside, with nothing in their place."""
    for aside in folder.glob(f"{_REPLACED}step-*"):
        target = folder / aside.name.removeprefix(_REPLACED)
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)


def _has_all_files(path: Path) -> bool:
    """Whether a checkpoint has a record and its files; their bytes are compared when it is loaded."""
    try:
        return all((path / name).is_file() for name in _read_record(path).files)
    except (OSError, ValueError):
        return False


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _find_cause(error: BaseException) -> BaseException:
    """A rank's own error, of those that torch collects from all; rather one that is not of the disk."""
    failures = [failure[0] for failure in getattr(error, "failures", {}).values()]
    return min(failures, key=_is_of_disk, default=error)


def _is_of_disk(error: BaseException) -> bool:
    """Whether a file could not be written, which torch's writer of archives reports as a `RuntimeError` of its own."""
    return isinstance(error, OSError) or (isinstance(error, RuntimeError) and "inline_container.cc" in str(error))


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, which may be missing, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir())
