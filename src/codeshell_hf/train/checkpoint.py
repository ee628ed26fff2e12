"""Checkpoints that are whole or absent: written aside while training goes on, sealed by hashes, renamed.

A broken one is recognised and passed by. However the model was shared out when one was written, it is
read by any engine on any number of ranks.
"""

import json
import logging
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ..errors import CheckpointError
from ..manifest import hash_file, write_text
from .sharding import Engine

logger = logging.getLogger(__name__)

SEAL = "seal.json"
_NAME = re.compile(r"step-(\d{8})")


@dataclass
class _Pending:
    """A checkpoint that is being written."""

    step: int
    aside: Path
    hashes: "Future[dict[str, str]]"
    about: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of a run, in a folder that all ranks see.

    Args:
        folder: Holds them.
        engine: What is saved.
        keep: How many of the last stay, at least 1.
        keep_every: Those at multiples of so many steps stay for good; `None` for none.
    """

    def __init__(self, folder: Path, engine: Engine, *, keep: int, keep_every: int | None = None) -> None:
        self.folder = folder
        self._engine = engine
        self._keep = keep
        self._keep_every = keep_every
        self._pending: _Pending | None = None
        self._pool = ThreadPoolExecutor(max_workers=1)
        # The default group is busy with gradients while a checkpoint is written.
        self._group = dist.new_group(backend="gloo")
        self._rank, self._ranks = dist.get_rank(), dist.get_world_size()

    def save(self, step: int, about: dict[str, Any]) -> None:
        """Begins to save; returns when what is saved may change again.

        Args:
            step: Steps done.
            about: Plain values, the same on all ranks.
        """
        self.commit()
        aside = self.folder / f".step-{step:08d}"
        if self._rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        dist.barrier(self._group)
        wait = self._engine.write(aside, self._group)

        def finish() -> dict[str, str]:
            wait()
            files = sorted(path for path in aside.rglob("*") if path.is_file())
            return {path.relative_to(aside).as_posix(): hash_file(path) for path in files[self._rank :: self._ranks]}

        self._pending = _Pending(step, aside, self._pool.submit(finish), about)

    def commit(self) -> None:
        """Waits until what was begun is written, on all ranks, seals it and puts it in its place."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        hashes: list[dict[str, str]] = [{} for _ in range(self._ranks)]
        dist.all_gather_object(hashes, pending.hashes.result(), group=self._group)
        if self._rank == 0:
            seal = {
                "step": pending.step,
                "about": pending.about,
                "files": {name: value for one in hashes for name, value in sorted(one.items())},
            }
            write_text(pending.aside / SEAL, json.dumps(seal, indent=1))
            target = self.folder / f"step-{pending.step:08d}"
            shutil.rmtree(target, ignore_errors=True)
            pending.aside.rename(target)
            for old in list_checkpoints(self.folder)[: -self._keep]:
                step = int(old.name.removeprefix("step-"))
                if self._keep_every is None or step % self._keep_every:
                    shutil.rmtree(old)
        dist.barrier(self._group)

    def is_written(self) -> bool:
        """Whether this rank has written what was begun, so that `commit` need not wait for it."""
        return self._pending is not None and self._pending.hashes.done()

    def load_latest(self) -> dict[str, Any] | None:
        """Goes back to the newest checkpoint that is whole.

        Returns:
            Its `about`, or `None` where there is none; broken ones are named in a warning and passed by.

        Raises:
            CheckpointError: If it is of another model.
        """
        self.commit()
        for path in reversed(list_checkpoints(self.folder)):
            try:
                seal = self._check(path)
            except CheckpointError as error:
                if self._rank == 0:
                    logger.warning("%s; the one before it is used", error)
                continue
            self._engine.read(path, self._group)
            return seal["about"]
        return None

    def _check(self, path: Path) -> dict[str, Any]:
        """Compares hashes, each rank some of the files; all ranks agree."""
        try:
            seal: dict[str, Any] = json.loads((path / SEAL).read_text(encoding="utf-8"))
            names = sorted(seal["files"])[self._rank :: self._ranks]
            wrong = [name for name in names if hash_file(path / name) != seal["files"][name]]
            fault = f"{path / wrong[0]} is not what was sealed: it is broken" if wrong else None
        except (OSError, ValueError, KeyError) as error:
            seal, fault = {}, f"{path} is no whole checkpoint ({error})"
        faults: list[str | None] = [None] * self._ranks
        dist.all_gather_object(faults, fault, group=self._group)
        if found := next(filter(None, faults), None):
            raise CheckpointError(found)
        return seal


def list_checkpoints(folder: Path) -> list[Path]:
    """Finds the checkpoints of a run.

    Args:
        folder: Holds them; it may be missing.

    Returns:
        Their folders, the oldest first.
    """
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
