"""Chooses precision and threads for a stage, the same on all ranks."""

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
        requested: The setting.
        read_config: Returns the model's configuration; called only if something is measured.
        work: Its `precision` is filled for the manifest.
        trains: Whether there are backward passes.
        record_folder: Holds the precision that the run started with, and survives a kill, as the checkpoints' folder
            does. A recorded bfloat16 that is slow on this machine is used, with a warning. `None` chooses anew.
        orthogonalize: Muon's iterations, if it is used.

    Returns:
        The same on every rank.

    Raises:
        Exception: The first rank's error, on every rank, since the others would wait for ever.
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
            if record_folder is not None and recorded.is_bf16:  # the recorded speedup may be another machine's
                advice = f"the run keeps its precision; remove {record_folder / RECORD} to choose again"
                choose_precision("bfloat16", read_config(), device, trains=trains, advice=advice)
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
    """The error for other ranks: itself, or a `RunFailed` with its text if it cannot be pickled."""
    from ..errors import RunFailed

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    except Exception:
        made = RunFailed(f"{type(error).__name__}: {' '.join(str(error).split())}")
        made.__cause__ = error
        return made
    return error


def read_config(model: Path) -> "PreTrainedConfig":
    """Reads the configuration of a model's folder; a `CheckpointError` if there is none."""
    from transformers import AutoConfig

    import codeshell_hf  # noqa: F401 - makes its models known

    from ..errors import CheckpointError

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{model} has no configuration ({reason}); name a model's folder") from error
    return config
