"""Estimates a pretraining run before it starts: memory by part, steps, communication, tokens per second, days, disk."""

import math
from dataclasses import dataclass, replace

from pydantic import ValidationError

from ..configuration_codeshell import CodeShellConfig
from ..errors import SettingsError
from ..presets import count_parameters
from ..settings import unknown_key
from .memory import RESERVED_GB, Layout, Memory, count_moment_bytes, estimate_memory
from .schedule import Steps, plan_steps
from .settings import BatchSettings, CheckpointSettings, EvaluationSettings, OptimizerSettings, ScheduleSettings
from .sharding import Sharding, check_fp8, check_model, check_optimizer
from .speed import count_traffic, predict_token_s, time_step
from .throughput import DEVICES, Device, cost_token

DAY_S = 86_400
PARTS = ("weights", "gradients", "moments", "gathered", "activations", "logits")
FILES = {"zero": "zero3.yaml", "fsdp2": "fsdp2.yaml"}  # under recipes/accelerate
BYTES_PER_TOKEN = 3.3  # of code


@dataclass(frozen=True)
class Cluster:
    """The GPUs of a run.

    Args:
        gpu: A key of `DEVICES`.
        mfu: The expected share of the peak, for causal attention; `None` to predict it.
        network_gb_s: Of each GPU to other nodes, in 10**9 bytes per second; `None` for the data sheet's.
    """

    gpus: int
    gpu: str
    mfu: float | None = None
    network_gb_s: float | None = None

    @property
    def device(self) -> Device:
        """The GPU's data sheet."""
        return DEVICES[self.gpu]

    @property
    def room_gb(self) -> float:
        """Memory of a GPU for the model, in 10**9 bytes."""
        return self.device.gigabytes - RESERVED_GB


def read_cluster(gpus: str = "8", gpu: str = "a100-80g", mfu: str | None = None, network: str | None = None) -> Cluster:
    """Parses the values of a command line; a `SettingsError` if one is invalid."""
    if gpu not in DEVICES:
        raise SettingsError(unknown_key(gpu, DEVICES, "in gpu"))
    if not (gpus.isascii() and gpus.isdigit()) or int(gpus) < 1:
        raise SettingsError(f"gpus is {gpus}; set it to a whole number from 1")
    share = None if mfu is None else _read_number(mfu)
    if share is not None and not 0 < share <= 1:
        raise SettingsError(f"mfu is {mfu}; set it to a share above 0 and up to 1, such as 0.4")
    speed = None if network is None else _read_number(network)
    if speed is not None and not 0 < speed < math.inf:
        raise SettingsError(f"network is {network}; set it to gigabytes a second of a GPU, such as 25")
    return Cluster(int(gpus), gpu, share, speed)


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class Plan:
    """A run on a cluster; `attention` is the implementation that is named, `sharding` the layout in words."""

    config: CodeShellConfig
    layout: Layout
    cluster: Cluster
    batch: BatchSettings
    schedule: ScheduleSettings
    attention: str
    sharding: str

    def describe(self) -> list[str]:
        """Lines to print.

        Raises:
            SettingsError: As `check_memory`.
        """
        memory, cluster = self.check_memory(), self.cluster
        device, steps = cluster.device, plan_steps(self.batch, self.schedule, self.layout.readers)
        kind = f"{cluster.gpus} x {cluster.gpu} ({device.tflops:.0f} TFLOP/s in bfloat16, {device.gigabytes:.1f} GB)"
        room = f"{cluster.room_gb:.1f}; {RESERVED_GB:.0f} are for driver and allocator"
        lines = [
            f"{count_parameters(self.config):,} parameters by {self.sharding} on {kind}",
            "",
            "peak memory of a GPU in GB",
            *(f"  {part:<14}{getattr(memory, part) / 1e9:>9.2f}" for part in PARTS),
            f"  {'all':<14}{memory.total / 1e9:>9.2f} of {room}",
            "",
        ]
        if steps.tokens != self.batch.global_tokens:
            lines.append(
                f"a step of {self.batch.global_tokens:,} tokens does not divide evenly: steps have {steps.tokens:,} "
                "tokens"
            )
        lines.append(
            f"{steps.count:,} steps of {steps.tokens:,} tokens: {self._count_readers()} x {self._passes(steps)} "
            f"forward passes of {self.batch.micro_tokens:,} tokens"
        )
        return lines + self._list_phases(steps)

    def check_memory(self) -> Memory:
        """The memory of a GPU.

        Raises:
            SettingsError: If the run does not fit into the GPUs; the error suggests a layout that does.
        """
        memory, room = estimate_memory(self.config, self.layout), self.cluster.room_gb
        if memory.total / 1e9 <= room:
            return memory
        biggest = max(PARTS, key=lambda part: getattr(memory, part))
        raise SettingsError(
            f"{self.sharding} needs {memory.total / 1e9:,.1f} GB a GPU where {self.cluster.gpu} leaves {room:.1f} "
            f"({biggest}: {getattr(memory, biggest) / 1e9:,.1f} GB); "
            f"{suggest_layout(self.config, self.layout, room, row_tokens=max(self.schedule.row_lengths))}"
        )

    def _count_readers(self) -> str:
        layout = self.layout
        return f"{layout.readers} " + (f"groups of {layout.together} GPUs" if layout.together > 1 else "GPUs")

    def _passes(self, steps: Steps) -> int:
        return steps.tokens // (self.batch.micro_tokens * self.layout.readers)

    def _list_phases(self, steps: Steps) -> list[str]:
        """Tokens per second for each row length, communication, and days and GPU hours in total."""
        cluster, peak = self.cluster, self.cluster.device.tflops * 1e12
        traffic, passes = count_traffic(self.config, self.layout), self._passes(steps)
        ends = [start for start, _ in steps.phases[1:]] + [self.schedule.total_tokens]
        lines, total_s = [], 0.0
        for (start, row_tokens), end in zip(steps.phases, ends, strict=True):
            flops = cost_token(self.config, row_tokens).causal
            if cluster.mfu is None:
                token_s = predict_token_s(self.config, row_tokens, self.layout, cluster.device, self.attention)
            else:  # recomputation takes time, but MFU does not count it
                token_s = flops / (cluster.mfu * peak) * (4 / 3 if self.layout.recomputes else 1)
            step = time_step(
                traffic, self.layout, cluster.device,
                pass_s=token_s * self.batch.micro_tokens / self.layout.together,
                passes=passes, network_gb_s=cluster.network_gb_s,
            )  # fmt: skip
            speed = steps.tokens / (step.whole if cluster.mfu is None else step.arithmetic)  # in all
            total_s += (end - start) / speed
            share = f"{flops * speed / cluster.gpus / peak:.0%} of the peak, "
            share += "predicted" if cluster.mfu is None else "as given"
            lines.append(
                f"rows of {row_tokens:,}: {(end - start) / 1e9:,.2f} billion tokens at {speed / cluster.gpus:,.0f} "
                f"tokens/s a GPU and {speed:,.0f} in all ({share})"
            )
            lines.append(
                f"  a step has {step.arithmetic:,.2f} s of arithmetic and {step.communication:,.2f} s of "
                f"communication, of which {step.whole - step.arithmetic:,.2f} s are not hidden behind it"
            )
        return [*lines, f"{total_s / DAY_S:,.1f} days, {total_s * cluster.gpus / 3600:,.0f} GPU hours"]


def count_checkpoint_bytes(config: CodeShellConfig, layout: Layout) -> int:
    """Of weights and moments; tied weights are written under both of their names."""
    tied = config.vocab_size * config.n_embd if config.tie_word_embeddings else 0
    return round(layout.weight_bytes * (count_parameters(config) + tied) + count_moment_bytes(config, layout))


def describe_disk(
    config: CodeShellConfig,
    layout: Layout,
    steps: Steps,
    checkpoint: CheckpointSettings,
    evaluation: EvaluationSettings,
) -> str:
    """What the run writes: checkpoints, exports and the model."""
    kept = min(checkpoint.keep, -(-steps.count // checkpoint.every_steps)) + 1  # and one that is being written
    kept += steps.count // checkpoint.keep_every_steps if checkpoint.keep_every_steps else 0
    kept += steps.decay_start is not None
    exports = (steps.count - 1) // evaluation.every_steps if evaluation.exports and evaluation.every_steps else 0
    exports = min(exports, evaluation.keep_exports or exports)
    size, whole = (
        count_checkpoint_bytes(config, layout) / 1e9,
        layout.weight_bytes * count_parameters(config) / 1e9,
    )
    return (
        f"disk: up to {kept * size + (exports + 1) * whole:,.0f} GB ({kept} checkpoints of {size:,.1f}, "
        f"{exports} exports and the model of {whole:,.1f} each)"
    )


def describe_evaluation(
    config: CodeShellConfig, layout: Layout, device: Device, steps: Steps, evaluation: EvaluationSettings
) -> str:
    """How many evaluations there are, and how long one takes per language; the ranks share the documents."""
    count = 2 + ((steps.count - 1) // evaluation.every_steps if evaluation.every_steps else 0)
    longest = max(row_tokens for _, row_tokens in steps.phases)
    token_s = predict_token_s(config, longest, replace(layout, recomputes=False), device, "sdpa") / 3  # forward
    seconds = evaluation.max_bytes_per_language / BYTES_PER_TOKEN * token_s / layout.ranks
    return (
        f"{count:,} evaluations, each on up to {evaluation.max_bytes_per_language:,} bytes a language, "
        f"{seconds:,.2f} s a language"
    )


def suggest_layout(config: CodeShellConfig, layout: Layout, room_gb: float, *, row_tokens: int) -> str:
    """Suggests changes with which a run fits: fewest GPUs first, then least sharding, recomputation and splitting.

    Tensor and context parallelism come last: they communicate within each block.

    Args:
        config: The architecture.
        layout: One that does not fit.
        room_gb: Available memory in 10**9 bytes.
        row_tokens: The longest row, which is not split over forward passes, but over GPUs by cp.
    """
    smaller = [layout.micro_tokens // part for part in (1, 2, 4, 8, 16) if layout.micro_tokens // part >= row_tokens]
    changes = [
        replace(other, ranks=ranks * layout.ranks, recomputes=recomputes, micro_tokens=micro)
        for others in (_list_kinds(layout), _list_meshes(config, layout, row_tokens))
        for ranks in (1, 2, 4, 8, 16)
        for other in (*others, *_list_compact(layout, ranks))
        for recomputes in (layout.recomputes, True)
        for micro in smaller
        if ranks * layout.ranks % (other.replicas * other.together) == 0
        and _can_start(config, replace(other, ranks=ranks * layout.ranks))
    ]
    other = next((other for other in changes if estimate_memory(config, other).total / 1e9 <= room_gb), None)
    if other is None:
        return "nothing of recipes/accelerate makes it fit; take more GPUs, or ones with more memory"
    is_other_kind = (other.kind, other.stage) != (layout.kind, layout.stage)
    is_other_mesh = (other.tensor, other.context) != (layout.tensor, layout.context)
    change = "" if layout.is_bf16 else ' (with mixed_precision "no")'
    mends = {
        f"accelerate=recipes/accelerate/{FILES.get(other.kind)}{change}": is_other_kind and not is_other_mesh,
        f"accelerate=recipes/accelerate/mesh.yaml (tp {other.tensor}, cp {other.context}){change}": is_other_mesh,
        "gradient_checkpointing=true": other.recomputes != layout.recomputes,
        f"batch.micro_tokens={other.micro_tokens}": other.micro_tokens != layout.micro_tokens,
        f"gpus={other.ranks}": other.ranks != layout.ranks,
        f"optimizer.moments={other.moments}": other.moments != layout.moments,
        f"optimizer.weights={other.weights}": other.weights != layout.weights,
    }
    return "it fits with " + " ".join(mend for mend, is_needed in mends.items() if is_needed)


def _can_start(config: CodeShellConfig, layout: Layout) -> bool:
    """Whether an engine takes a layout's optimiser, what it stores, and its products in 8 bits."""
    sharding = Sharding(layout.kind, stage=layout.stage, tensor=layout.tensor, context=layout.context)
    try:
        optimizer = OptimizerSettings(
            name=layout.optimizer, learning_rate=1.0, moments=layout.moments, weights=layout.weights
        )
        check_optimizer(optimizer, sharding, layout.ranks, is_bf16=layout.is_bf16)
        check_fp8(config, layout.fp8, sharding)
    except (SettingsError, ValidationError):
        return False
    return True


def _list_kinds(layout: Layout) -> list[Layout]:
    """A layout, and the same by what shards the most."""
    return [layout, *(replace(layout, kind=kind, stage=3, tensor=1, context=1) for kind in ("zero", "fsdp2"))]


def _list_compact(layout: Layout, ranks: int) -> list[Layout]:
    """On one GPU, where nothing can be divided, the layout with what the optimiser stores in 16 and 8 bits."""
    if (layout.kind, layout.ranks, ranks) != ("ddp", 1, 1):
        return []
    return [replace(layout, moments="8bit"), replace(layout, moments="8bit", weights="bfloat16")]


def _list_meshes(config: CodeShellConfig, layout: Layout, row_tokens: int) -> list[Layout]:
    """The layout with tensor and context parallelism, as far as sizes divide; within a node."""
    found = []
    for tensor, context in ((2, 1), (4, 1), (8, 1), (1, 2), (2, 2), (4, 2), (1, 4), (2, 4), (1, 8)):
        try:
            check_model(config, Sharding("fsdp2", tensor=tensor, context=context), [row_tokens])
        except SettingsError:
            continue
        found.append(replace(layout, kind="fsdp2", stage=3, tensor=tensor, context=context))
    return found
