"""Starts accelerate, and makes sure that what was asked for is what runs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def start_accelerator(*, precision: str) -> "Accelerator":
    """Starts accelerate in this process.

    Args:
        precision: "fp32" or "bf16": the arithmetic under autocast; weights stay in float32.

    Returns:
        The accelerator.

    Raises:
        SettingsError: If the launcher's file asks for sharding, which this loop does not do yet, or for another
            precision, or started several processes that do not see each other.
    """
    import os

    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    from codeshell_hf.errors import SettingsError

    for name, asks in (("FSDP", "ACCELERATE_USE_FSDP"), ("DeepSpeed", "ACCELERATE_USE_DEEPSPEED")):
        if os.environ.get(asks, "false").lower() in ("1", "true"):
            raise SettingsError(
                f"accelerate's file asks for {name}, which this loop does not apply yet; "
                "launch with recipes/accelerate/cpu.yaml or ddp.yaml"
            )
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    wanted = {"fp32": "no", "bf16": "bf16"}[precision]
    if asked not in ("no", wanted):
        raise SettingsError(f"accelerate's file says mixed_precision {asked}, the recipe {precision}; make them agree")
    accelerator = Accelerator(mixed_precision=wanted, cpu=not torch.cuda.is_available())
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != ranks or (ranks > 1 and accelerator.distributed_type == DistributedType.NO):
        raise SettingsError(
            f"{ranks} processes were launched, but accelerate joined {accelerator.num_processes}; "
            "launch with recipes/accelerate/cpu.yaml or ddp.yaml"
        )
    return accelerator
