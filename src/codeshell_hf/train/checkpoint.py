"""Checkpoints that are whole or absent: written aside, sealed by a hash, renamed; a broken one is passed by."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..manifest import hash_file, write_text

logger = logging.getLogger(__name__)

STATE, SEAL = "state.pt", "seal.json"
_NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Saves the state of a run and removes the oldest checkpoints.

    Args:
        folder: Holds all checkpoints of the run.
        step: The number of steps done.
        state: Tensors and plain values.
        keep: How many checkpoints stay, at least 1.

    Returns:
        The checkpoint's folder.
    """
    target = folder / f"step-{step:08d}"
    aside = folder / f".{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    torch.save(state, aside / STATE)
    write_text(aside / SEAL, json.dumps({"step": step, "sha256": hash_file(aside / STATE)}))
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Finds the checkpoints of a run.

    Args:
        folder: Holds them; it may be missing.

    Returns:
        Their folders, the oldest first.
    """
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def load_latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Loads the newest checkpoint that is whole.

    Args:
        folder: Holds the checkpoints of a run.

    Returns:
        Its state, or `None` where there is none; broken ones are named in a warning and passed by.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s; the one before it is used", error)
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Loads one checkpoint.

    Args:
        path: Its folder.

    Returns:
        Its state, on the CPU.

    Raises:
        CheckpointError: If it is not what was sealed.
    """
    try:
        sealed = json.loads((path / SEAL).read_text(encoding="utf-8"))["sha256"]
        found = hash_file(path / STATE)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint ({error})") from error
    if found != sealed:
        raise CheckpointError(f"{path / STATE} has hash {found[:12]} where {sealed[:12]} was sealed: it is broken")
    state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
    return state
