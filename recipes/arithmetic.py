"""What a stage that computes is told about precision and threads, and how its ranks agree on it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from recipes.stage import Section, Work, is_first_rank, print_first

if TYPE_CHECKING:
    from codeshell_hf.precision import Asked, Precision


class PrecisionSettings(Section):
    """What the settings of every stage, or part of one, that computes have."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of products; auto takes bfloat16 where it is 1.2 times as fast as float32 or faster",
    )


def settle_precision(
    asked: "Asked",
    read_config: Callable[[], Any],
    work: Work,
    *,
    trains: bool = False,
    kept: Path | None = None,
    orthogonalize: Callable[..., Any] | None = None,
) -> "Precision":
    """Sets torch's threads, and settles what all ranks compute in: the first decides, a run that goes on keeps it.

    Args:
        asked: What the settings say.
        read_config: Gives the configuration of the model at hand; called only where something is tried.
        work: Filled for the manifest.
        trains: Whether there are backward passes.
        kept: The folder of the run's checkpoints, which holds what it began with; `None` for a stage without any.
        orthogonalize: Muon's iterations, where there are some.

    Returns:
        The same on every rank.

    Raises:
        CalledWrongly: Of the first rank, on every one.
    """
    import torch

    from codeshell_hf.errors import CalledWrongly
    from codeshell_hf.precision import choose_precision, read_precision, warn_if_slow, write_precision
    from codeshell_hf.processors import set_threads

    threads = set_threads()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def decide() -> "Precision":
        begun = read_precision(kept) if kept is not None else None
        if begun is not None:
            warn_if_slow(begun, device)
        config = None if begun or asked == "float32" else read_config()
        found = begun or choose_precision(asked, config, device, trains=trains, orthogonalize=orthogonalize)
        if kept is not None and begun is None:
            write_precision(kept, found)
        print_first(f"{found.describe(asked, is_resumed=begun is not None)}; {threads} threads")
        return found

    said: list[Any] = [None]
    if is_first_rank():
        try:
            said = [decide()]
        except CalledWrongly as error:
            said = [error]
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.broadcast_object_list(said, src=0)
    if isinstance(said[0], CalledWrongly):
        raise said[0]
    precision: Precision = said[0]
    work.precision = {"asked": asked, **asdict(precision), "device": device.type, "threads": threads}
    return precision


def read_config(model: Path) -> Any:
    """Reads a model's configuration.

    Args:
        model: Its folder.

    Returns:
        The configuration.

    Raises:
        CheckpointError: If there is none.
    """
    from transformers import AutoConfig

    import codeshell_hf  # noqa: F401 - makes its models known
    from codeshell_hf.errors import CheckpointError

    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{model} has no configuration ({reason}); name a model's folder") from error
