"""How a model and its optimisers are shared out over ranks: not at all, by torch's FSDP2, or by DeepSpeed's ZeRO.

The same code runs on GPUs and, over gloo, on CPUs, so that what is tested is what trains. Each engine answers to the
same few calls, and the loop does not know which it has.
"""

import torch

from ..configuration_codeshell import CodeShellConfig
from .engine import Engine, Sharding, Start, StepOptions
from .fsdp import ShardedEngine
from .optimizer import OptimizerOptions
from .zero import ZERO_STAGES, ZeroEngine

__all__ = ["ZERO_STAGES", "Engine", "Sharding", "Start", "StepOptions", "make_engine"]


def make_engine(
    config: CodeShellConfig,
    start: Start,
    optimizer: OptimizerOptions,
    options: StepOptions,
    sharding: Sharding,
    *,
    device: torch.device,
) -> Engine:
    """Makes a model and shares it out over the ranks of the default process group.

    Args:
        config: The architecture.
        start: Where its weights come from.
        optimizer: What the optimisers are told.
        options: What a step does.
        sharding: How to share.
        device: This rank's.

    Returns:
        What the loop calls.

    Raises:
        CheckpointError: If the weights to start from cannot be loaded.
        SettingsError: If the model cannot be shared out so.
    """
    if sharding.kind == "fsdp2":
        return ShardedEngine(config, start, optimizer, options, device=device, sharding=sharding)
    if sharding.kind == "zero":
        return ZeroEngine(config, start, optimizer, options, device=device, sharding=sharding)
    return Engine(config, start, optimizer, options, device=device)
