"""Pretraining's use of accelerate: joining the ranks that a launcher started, and its trackers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from codeshell_hf.train.ranks import Ranks
    from codeshell_hf.train.trackers import Tracker


@contextmanager
def join_ranks() -> "Iterator[Ranks]":
    """Joins the ranks of a launcher, or makes a process group of this process.

    Raises:
        SettingsError: If several processes were started but do not see each other.
    """
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    from codeshell_hf.errors import SettingsError
    from codeshell_hf.train.ranks import Ranks

    # Rows of another length would leave gaps in a GPU's memory; torch reads this when it first allocates some.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed, if installed, prints its guesses
    state = PartialState(cpu=not torch.cuda.is_available())
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched or (launched > 1 and not dist.is_initialized()):
        raise SettingsError(
            f"{launched} processes were launched, but accelerate joined {state.num_processes}; "
            "launch several on a CPU with torchrun"
        )
    is_alone = not dist.is_initialized()
    if is_alone:
        backend = "cpu:gloo,cuda:nccl" if state.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed reads it
    # NCCL does not support CPU tensors, and sums of the host's numbers should not wait for a GPU.
    host = dist.new_group(backend="gloo") if state.device.type == "cuda" and launched > 1 else None
    try:
        yield Ranks(state.device, state.process_index, state.num_processes, host)
    finally:
        if is_alone:
            dist.destroy_process_group()
            del os.environ["LOCAL_RANK"]


def start_tracker(name: str, project: str, options: dict[str, str]) -> "Tracker":
    """Starts a tracker of accelerate, such as "tensorboard".

    Raises:
        ImportError: If the tracker is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker = LOGGER_TYPE_TO_CLASS[name](project, **options)
    if hasattr(tracker, "start"):
        tracker.start()
    return cast("Tracker", tracker)
