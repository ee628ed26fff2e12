"""Precision and threads of a stage that computes, the same on all its ranks."""

import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .process import keep_freed_memory
from .stage import Work, is_first_rank, print_first

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from ..precision import Precision, RequestedPrecision, Shape


def resolve_precision(
    requested: "RequestedPrecision",
    read_config: "Callable[[], Shape]",
    work: Work,
    *,
    trains: bool = False,
    record_folder: Path | None = None,
    orthogonalize: "Callable[[torch.Tensor, torch.dtype], object] | None" = None,
) -> "Precision":
    """Sets torch's threads and chooses the precision of all ranks: the first rank decides, a resumed run keeps its own.

    Args:
        requested: What the settings say.
        read_config: Gives the configuration of the model at hand; called only where something is tried.
        work: Filled for the manifest.
        trains: Whether there are backward passes.
        record_folder: Holds the precision that the run started with, and survives a kill, as the checkpoints' folder
            does. A recorded bfloat16 that is slow on this machine is used, with a warning. `None` chooses anew.
        orthogonalize: Muon's iterations, where there are some.

    Returns:
        The same on every rank.

    Raises:
        Exception: What stopped the first rank, on every one; they would wait for it otherwise.
    """
    import torch

    from ..precision import RECORD, Precision, choose_precision, read_precision, write_precision
    from ..processors import set_threads

    keep_freed_memory()
    threads = set_threads()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def decide() -> "Precision":
        recorded = read_precision(record_folder) if record_folder is not None else None
        if recorded is None:
            config = None if requested == "float32" else read_config()
            found = choose_precision(requested, config, device, trains=trains, orthogonalize=orthogonalize)
            if record_folder is not None:
                write_precision(record_folder, found)
        else:
            found = recorded
            if record_folder is not None and recorded.is_bf16:  # the ratio of the record may be another machine's
                mend = f"the run goes on as it began; remove {record_folder / RECORD} to choose anew"
                choose_precision("bfloat16", read_config(), device, trains=trains, mend=mend)
        print_first(f"{found.describe(requested, is_resumed=recorded is not None)}; {threads} threads")
        return found

    decided: list[Precision | Exception | None] = [None]
    if is_first_rank():
        try:
            decided = [decide()]
        except Exception as error:
            decided = [_make_portable(error)]
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.broadcast_object_list(decided, src=0)
    precision = decided[0]
    if not isinstance(precision, Precision):
        raise precision or RuntimeError("the first rank sent no precision")
    work.precision = {"requested": requested, **asdict(precision), "device": device.type, "threads": threads}
    return precision


def _make_portable(error: Exception) -> Exception:
    """An error as other ranks can read it: itself, or its words where it cannot be pickled and read again."""
    from ..errors import RunFailed

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    except Exception:
        made = RunFailed(f"{type(error).__name__}: {' '.join(str(error).split())}")
        made.__cause__ = error
        return made
    return error


def read_config(model: Path) -> "PreTrainedConfig":
    """Reads the configuration of a model's folder.

    Raises:
        CheckpointError: If there is none.
    """
    from transformers import AutoConfig

    import codeshell_hf  # noqa: F401 - makes its models known

    from ..errors import CheckpointError

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{model} has no configuration ({reason}); name a model's folder") from error
    return config
