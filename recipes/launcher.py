"""Joins the processes that a launcher started, and reads from accelerate's file how they share the model out.

accelerate launch hands its file on as environment variables; torchrun does not, so there the recipe names the file.
accelerate itself ignores FSDP and DeepSpeed on a CPU without a word, so what it was asked for is applied by
`codeshell_hf.train.sharding`, on every device alike.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from codeshell_hf.precision import Asked
    from codeshell_hf.train.sharding import Sharding

_PRECISIONS: "dict[str, Asked]" = {
    "no": "auto",
    "bf16": "bfloat16",
}  # accelerate's "no" is its default, and asks nothing


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Args:
        device: This one's.
        rank: This one's number.
        count: How many there are.
    """

    device: "torch.device"
    rank: int
    count: int

    def print(self, text: str) -> None:
        """Prints on the first.

        Args:
            text: A line.
        """
        if self.rank == 0:
            print(text, flush=True)

    def add_up(self, *values: float) -> list[float]:
        """Adds numbers up over all processes.

        Args:
            values: This one's.

        Returns:
            Their sums, the same on all.
        """
        import torch
        import torch.distributed as dist

        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return [float(value) for value in numbers.tolist()]


@contextmanager
def join_ranks() -> "Iterator[Ranks]":
    """Joins the processes of a launcher, or makes a group of the only one.

    Yields:
        What this process is among them.

    Raises:
        SettingsError: If several processes were started that do not see each other.
    """
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    from codeshell_hf.errors import SettingsError

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # where DeepSpeed is installed, it wonders aloud
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
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed asks for it
    try:
        yield Ranks(state.device, state.process_index, state.num_processes)
    finally:
        if is_alone:
            dist.destroy_process_group()
            del os.environ["LOCAL_RANK"]


def read_sharding(file: Path | None, *, precision: "Asked") -> "tuple[Sharding, Asked]":
    """Reads how to share the model out, and in which precision.

    Args:
        file: accelerate's file where torchrun started the processes, `None` where accelerate did or nothing is shared.
        precision: The recipe's, which the launcher must not contradict.

    Returns:
        What was asked for; of precision, what either asks.

    Raises:
        SettingsError: If the file cannot be read, asks for what there is not, or contradicts the launcher or the
            recipe.
    """
    import yaml

    from codeshell_hf.errors import SettingsError

    launched = _read_environment(os.environ)
    named: dict[str, Any] | None = None
    if file is not None:
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
            named = _read_file(values)
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise SettingsError(
                f"accelerate is {file}, which cannot be read ({error}); name accelerate's file"
            ) from error
    if launched is not None and named is not None and launched != named:
        raise SettingsError(f"accelerate launch was given another file than {file}; name the same, or only one")
    asked = launched or named or {"kind": "ddp", "precision": "no"}
    mixed = asked.pop("precision")
    if mixed not in _PRECISIONS:
        raise SettingsError(f'accelerate\'s file asks for mixed_precision {mixed}; set it to bf16 or "no"')
    if _PRECISIONS[mixed] == "auto":
        return _make(asked), precision
    if precision not in ("auto", _PRECISIONS[mixed]):
        raise SettingsError(f"accelerate's file asks for another mixed_precision than {precision}; make them agree")
    return _make(asked), _PRECISIONS[mixed]


def _make(asked: dict[str, Any]) -> "Sharding":
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.train.sharding import ZERO_STAGES, Sharding

    if asked.get("version", 2) != 2:
        raise SettingsError(f"accelerate's file asks for FSDP{asked['version']}; set fsdp_version to 2")
    asked.pop("version", None)
    if asked["kind"] == "zero" and asked["stage"] not in ZERO_STAGES:
        raise SettingsError(f"accelerate's file asks for ZeRO-{asked['stage']}; set zero_stage to 2 or 3")
    return Sharding(**asked)


def _read_environment(given: Mapping[str, str]) -> dict[str, Any] | None:
    def holds(name: str) -> bool:
        return given.get(name, "false").lower() in ("1", "true", "yes")

    precision = given.get("ACCELERATE_MIXED_PRECISION", "no")
    replicas = int(given.get("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "1"))
    if holds("ACCELERATE_USE_FSDP"):
        return {
            "kind": "fsdp2",
            "version": int(given.get("FSDP_VERSION", "1")),
            "reshards": holds("FSDP_RESHARD_AFTER_FORWARD"),
            "offloads": holds("FSDP_OFFLOAD_PARAMS"),
            "replicas": replicas,
            "precision": precision,
        }
    if holds("ACCELERATE_USE_DEEPSPEED"):
        return {
            "kind": "zero",
            "stage": int(given.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")),
            "offloads": given.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none",
            "precision": precision,
        }
    return {"kind": "ddp", "precision": precision} if "ACCELERATE_MIXED_PRECISION" in given else None


def _read_file(values: Mapping[str, Any]) -> dict[str, Any]:
    precision = values.get("mixed_precision", "no")
    kind = values.get("distributed_type", "NO")
    if kind == "FSDP":
        fsdp = values.get("fsdp_config") or {}
        parallel = values.get("parallelism_config") or {}
        return {
            "kind": "fsdp2",
            "version": int(fsdp.get("fsdp_version", 1)),
            "reshards": bool(fsdp.get("fsdp_reshard_after_forward", True)),
            "offloads": bool(fsdp.get("fsdp_offload_params", False)),
            "replicas": int(parallel.get("parallelism_config_dp_replicate_size", 1)),
            "precision": precision,
        }
    if kind == "DEEPSPEED":
        zero = values.get("deepspeed_config") or {}
        return {
            "kind": "zero",
            "stage": int(zero.get("zero_stage", 2)),
            "offloads": zero.get("offload_optimizer_device", "none") != "none",
            "precision": precision,
        }
    return {"kind": "ddp", "precision": precision}
