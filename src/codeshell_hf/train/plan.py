"""Estimates a pretraining run before it starts: memory by part, steps, tokens per second, days."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..configuration_codeshell import CodeShellConfig
from ..errors import SettingsError
from ..presets import count_parameters
from ..settings import unknown_key
from .memory import RESERVED_GB, Layout, estimate_memory
from .schedule import Steps, plan_steps
from .settings import BatchSettings, ScheduleSettings
from .throughput import DEVICES, Device, cost_token

DAY_S = 86_400
PARTS = ("weights", "gradients", "moments", "gathered", "activations", "logits")
FILES = {"zero": "zero3.yaml", "fsdp2": "fsdp2.yaml"}  # under recipes/accelerate


@dataclass(frozen=True)
class Cluster:
    """The GPUs of a run: `gpu` is a key of `DEVICES`, `mfu` the expected share of the peak (causal attention)."""

    gpus: int
    gpu: str
    mfu: float

    @property
    def device(self) -> Device:
        """The GPU's data sheet."""
        return DEVICES[self.gpu]

    @property
    def room_gb(self) -> float:
        """Memory of a GPU for the model, in 10**9 bytes."""
        return self.device.gigabytes - RESERVED_GB


def read_cluster(values: Mapping[str, str]) -> Cluster:
    """Parses `gpus`, `gpu` and `mfu`; a `SettingsError` if one is invalid."""
    if values["gpu"] not in DEVICES:
        raise SettingsError(unknown_key(values["gpu"], DEVICES, "gpu"))
    if not values["gpus"].isdigit() or int(values["gpus"]) < 1:
        raise SettingsError(f"gpus is {values['gpus']}; set it to a whole number from 1")
    try:
        mfu = float(values["mfu"])
    except ValueError:
        mfu = 0.0
    if not 0 < mfu <= 1:
        raise SettingsError(f"mfu is {values['mfu']}; set it to a share above 0 and up to 1, such as 0.4")
    return Cluster(int(values["gpus"]), values["gpu"], mfu)


def plan_run(
    config: CodeShellConfig,
    layout: Layout,
    cluster: Cluster,
    batch: BatchSettings,
    schedule: ScheduleSettings,
    *,
    sharding: str,
) -> list[str]:
    """Estimates a run; returns lines to print. `sharding` is the layout in words.

    Raises:
        SettingsError: If the run does not fit into the GPUs; the error suggests a layout that does.
    """
    memory = estimate_memory(config, layout)
    room = cluster.room_gb
    if memory.total / 1e9 > room:
        biggest = max(PARTS, key=lambda part: getattr(memory, part))
        raise SettingsError(
            f"{sharding} needs {memory.total / 1e9:,.1f} GB a GPU where {cluster.gpu} leaves {room:.1f} "
            f"({biggest}: {getattr(memory, biggest) / 1e9:,.1f} GB); "
            f"{suggest_layout(config, layout, room, row_tokens=max(schedule.row_lengths))}"
        )

    steps = plan_steps(batch, schedule, layout.ranks)
    device = cluster.device
    kind = f"{cluster.gpus} x {cluster.gpu} ({device.tflops:.0f} TFLOP/s in bfloat16, {device.gigabytes:.1f} GB)"
    lines = [
        f"{count_parameters(config):,} parameters by {sharding} on {kind}",
        "",
        "peak memory of a GPU in GB",
        *(f"  {part:<14}{getattr(memory, part) / 1e9:>9.2f}" for part in PARTS),
        f"  {'all':<14}{memory.total / 1e9:>9.2f} of {room:.1f}; {RESERVED_GB:.0f} are for driver and allocator",
        "",
    ]
    if steps.tokens != batch.global_tokens:
        lines.append(
            f"a step of {batch.global_tokens:,} tokens does not divide evenly: steps have {steps.tokens:,} tokens"
        )
    passes = steps.tokens // (batch.micro_tokens * layout.ranks)
    lines.append(
        f"{steps.count:,} steps of {steps.tokens:,} tokens: {layout.ranks} GPUs x {passes} forward passes "
        f"of {batch.micro_tokens:,} tokens"
    )
    return lines + _list_phases(config, cluster, steps, schedule.total_tokens, recomputes=layout.recomputes)


def _list_phases(
    config: CodeShellConfig, cluster: Cluster, steps: Steps, total_tokens: int, *, recomputes: bool
) -> list[str]:
    """Tokens per second for each row length, and days and GPU hours in total."""
    ends = [start for start, _ in steps.phases[1:]] + [total_tokens]
    # Recomputation takes time, but MFU does not count it.
    recomputation = 4 / 3 if recomputes else 1
    lines, seconds = [], 0.0
    for (start, row_tokens), end in zip(steps.phases, ends, strict=True):
        flops = cost_token(config, row_tokens).causal
        speed = cluster.mfu * cluster.device.tflops * 1e12 / flops / recomputation
        seconds += (end - start) / (speed * cluster.gpus)
        lines.append(
            f"rows of {row_tokens:,}: {(end - start) / 1e9:,.2f} billion tokens at {speed:,.0f} tokens/s a GPU and "
            f"{speed * cluster.gpus:,.0f} in all, for a share of {cluster.mfu:.0%} of the peak"
        )
    return [*lines, f"{seconds / DAY_S:,.1f} days, {seconds * cluster.gpus / 3600:,.0f} GPU hours"]


def suggest_layout(config: CodeShellConfig, layout: Layout, room_gb: float, *, row_tokens: int) -> str:
    """Suggests changes with which a run fits: fewest GPUs first, then least sharding, recomputation and splitting.

    Args:
        config: The architecture.
        layout: One that does not fit.
        room_gb: Available memory in 10**9 bytes.
        row_tokens: The longest row, which is not split over forward passes.
    """
    smaller = [layout.micro_tokens // part for part in (1, 2, 4, 8, 16) if layout.micro_tokens // part >= row_tokens]
    changes = [
        replace(layout, kind=kind, stage=stage, ranks=ranks * layout.ranks, recomputes=recomputes, micro_tokens=micro)
        for ranks in (1, 2, 4, 8, 16)
        for kind, stage in ((layout.kind, layout.stage), ("zero", 3), ("fsdp2", 3))
        for recomputes in (layout.recomputes, True)
        for micro in smaller
    ]
    other = next((other for other in changes if estimate_memory(config, other).total / 1e9 <= room_gb), None)
    if other is None:
        return "nothing of recipes/accelerate makes it fit; take more GPUs, or ones with more memory"
    is_other_kind = (other.kind, other.stage) != (layout.kind, layout.stage)
    mends = {
        f"accelerate=recipes/accelerate/{FILES.get(other.kind)}": is_other_kind,
        "gradient_checkpointing=true": other.recomputes != layout.recomputes,
        f"batch.micro_tokens={other.micro_tokens}": other.micro_tokens != layout.micro_tokens,
        f"gpus={other.ranks}": other.ranks != layout.ranks,
    }
    return "it fits with " + " ".join(mend for mend, is_needed in mends.items() if is_needed)
