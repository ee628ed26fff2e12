"""Builds DeepSpeed's operator for all-reduce on CPUs, which is compiled on the machine where it runs."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import torch

from ..errors import SettingsError

VARIABLE = "TORCH_EXTENSIONS_DIR"  # where torch caches compiled extensions


def operator_folder() -> Path:
    """The operator's folder for this torch and environment, in TORCH_EXTENSIONS_DIR or the user's caches."""
    caches = os.environ.get(VARIABLE) or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # It is linked against this torch at this environment's path.
    made_by = hashlib.sha256(f"{torch.__version__} {sys.prefix}".encode()).hexdigest()[:12]
    return Path(caches) / "codeshell_hf" / "operators" / made_by


def build_operator() -> None:
    """Compiles the operator, which takes about a minute, or loads the compiled one.

    torch locks a build with a file that only its creator removes: after a kill, later builds wait for ever. So this
    function builds in its own folder, under a lock that ends with the process; a lock file of torch found there is
    stale.

    Raises:
        SettingsError: If there is no compiler, or the folder cannot be written.
    """
    from deepspeed.accelerator import get_accelerator
    from filelock import FileLock

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None or not builder.is_compatible():
        return  # DeepSpeed then uses gloo
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise SettingsError(
            f"ZeRO on a CPU needs a compiler, but there is no {compiler}; install g++, or shard with FSDP2"
        )
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
