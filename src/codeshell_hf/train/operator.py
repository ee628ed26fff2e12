"""What DeepSpeed sums gradients with on a CPU, which it compiles on the machine it runs on."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import torch

from ..errors import SettingsError

VARIABLE = "TORCH_EXTENSIONS_DIR"  # where torch looks for what it compiled


def operator_folder() -> Path:
    """Where the operator of this torch and this environment lies, below TORCH_EXTENSIONS_DIR or the user's caches."""
    caches = os.environ.get(VARIABLE) or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # It is compiled against this torch, found by this environment's path.
    made_by = hashlib.sha256(f"{torch.__version__} {sys.prefix}".encode()).hexdigest()[:12]
    return Path(caches) / "codeshell_hf" / "operators" / made_by


def build_operator() -> None:
    """Compiles the operator, about a minute of a core, or loads what was compiled before.

    torch keeps builders apart by a file that only its maker removes: one that is killed leaves it behind, and whoever
    comes later waits for ever. So this function builds in a folder that nothing else builds in, behind a lock that
    goes with its holder; torch's file, when found there, was left.

    Raises:
        SettingsError: There is no compiler, or the folder cannot be written.
    """
    from deepspeed.accelerator import get_accelerator
    from filelock import FileLock

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None or not builder.is_compatible():
        return  # DeepSpeed does without, and sums by gloo
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise SettingsError(f"ZeRO on a CPU is compiled, but there is no {compiler}; install g++, or shard by FSDP2")
    given = os.environ.get(VARIABLE)
    folder = operator_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for left in folder.glob("*/lock"):
                left.unlink()
            os.environ[VARIABLE] = str(folder)
            try:
                builder.load(verbose=False)
            finally:
                os.environ.pop(VARIABLE)
                os.environ |= {VARIABLE: given} if given else {}
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written ({error.strerror}), where DeepSpeed's operator is compiled; "
            f"set {VARIABLE} to a folder that can"
        ) from error
