"""Predicts how long a step takes on a cluster: arithmetic by measured rates, and communication between GPUs."""

from dataclasses import dataclass, replace

from ..configuration_codeshell import CodeShellConfig
from ..presets import count_ends, count_parameters, count_shared
from .attention import VARLEN_FA4
from .memory import BF16, FP32, Layout, count_activations
from .throughput import Device, cost_token

NODE_GPUS = 8  # joined by NVLink; others by the network
# Measured on one H100 with codeshell-small in rows of 2,048 and 8,192 (benchmarks/README.md, "One H100"), as shares of
# its data sheet. Other GPUs are assumed to reach the same shares.
MATRIX_SHARE = 0.751
ATTENTION_SHARE = 0.279  # torch's FlashAttention 2
FA4_SHARE = 0.608
# Norms, activations, rotary embedding, loss and optimiser: how often what is kept for the backward pass crosses memory.
CROSSINGS = 10.6


@dataclass(frozen=True)
class Traffic:
    """Bytes that a GPU sends.

    Args:
        per_pass: In each forward and backward pass, overlapping with it.
        per_step: Once a step, overlapping with the last backward pass.
        shard_gpus: GPUs that `per_pass` is exchanged with.
        between_replicas: In each pass, to other replicas of the shards, besides `per_pass`.
        in_tensors: In each pass, within blocks, to the GPUs that share their matrices; nothing overlaps with it.
        in_contexts: Likewise keys and values, to the GPUs that share rows.
    """

    per_pass: float
    per_step: float
    shard_gpus: int
    between_replicas: float = 0.0
    in_tensors: float = 0.0
    in_contexts: float = 0.0


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Args:
        arithmetic: Of all its forward and backward passes.
        communication: Of all that a GPU sends.
        whole: With what of the communication cannot be hidden behind arithmetic.
    """

    arithmetic: float
    communication: float
    whole: float


def predict_token_s(config: CodeShellConfig, row_tokens: int, layout: Layout, device: Device, attention: str) -> float:
    """Seconds of one token in training on one GPU, forward and backward, compiled, without communication.

    Args:
        attention: Its implementation; any but FlashAttention 4 is taken for torch's FlashAttention 2.
    """
    cost, peak = cost_token(config, row_tokens), device.tflops * 1e12
    alone = replace(layout, recomputes=False, tensor=1, context=1)
    share = FA4_SHARE if attention == VARLEN_FA4 else ATTENTION_SHARE
    kept = count_activations(config, alone) / layout.micro_tokens
    seconds = (
        cost.matrices / (MATRIX_SHARE * peak)
        + cost.causal_attention / (share * peak)
        + CROSSINGS * kept / (device.memory_tb_s * 1e12)
    )
    return seconds * (4 / 3 if layout.recomputes else 1)  # the forward pass again


def count_traffic(config: CodeShellConfig, layout: Layout) -> Traffic:
    """Counts what a GPU sends, with collectives that send each number once around a ring."""
    numbers, size = count_parameters(config), BF16 if layout.is_bf16 else FP32
    shards = layout.ranks // layout.replicas
    sent, reduced = (shards - 1) / shards, 2 * (layout.replicas - 1) / layout.replicas
    if layout.kind == "ddp":
        return Traffic(0.0, 2 * (layout.ranks - 1) / layout.ranks * numbers * FP32, layout.ranks)
    if layout.kind == "zero" and layout.stage == 2:  # gradients in each pass, new weights after the step
        return Traffic(sent * numbers * size, sent * numbers * size, shards)
    gathers = 2 if layout.kind == "zero" or layout.reshards else 1
    gradient = size if layout.kind == "zero" else FP32
    blocks = (numbers - count_ends(config)) / layout.tensor
    among_blocks = 1 - layout.tensor / shards  # GPUs that share matrices do not exchange them
    exchanged = among_blocks * blocks + sent * count_ends(config)
    return Traffic(
        exchanged * (gathers * size + gradient), 0.0, shards, reduced * numbers * FP32 / shards,
        in_tensors=_count_positions(config, layout), in_contexts=_count_keys(config, layout),
    )  # fmt: skip


def _count_positions(config: CodeShellConfig, layout: Layout) -> float:
    """Bytes of positions that are gathered before attention and MLP and scattered behind them, and back."""
    times = 2 * 2 * (3 if layout.recomputes else 2)
    numbers = layout.micro_tokens / layout.context * config.n_embd * (1 - 1 / layout.tensor)
    return float(times * numbers * config.n_layer * (BF16 if layout.is_bf16 else FP32))


def _count_keys(config: CodeShellConfig, layout: Layout) -> float:
    """Bytes of keys and values that are gathered, and of their gradients."""
    times = 3 if layout.recomputes else 2
    numbers = layout.micro_tokens * 2 * count_shared(config) / layout.tensor * (1 - 1 / layout.context)
    return float(times * numbers * config.n_layer * (BF16 if layout.is_bf16 else FP32))


def time_step(
    traffic: Traffic, layout: Layout, device: Device, *, pass_s: float, passes: int, network_gb_s: float | None = None
) -> StepTime:
    """Seconds of a step with communication.

    Args:
        pass_s: Seconds of a forward and backward pass without it.
        passes: Forward and backward passes of a step.
        network_gb_s: Of each GPU to other nodes, in 10**9 bytes per second; `None` for the data sheet's.
    """
    network = network_gb_s or device.network_gb_s

    def seconds(sent: float, gpus: int) -> float:
        return sent / ((device.nvlink_gb_s if gpus <= NODE_GPUS else network) * 1e9)

    in_pass = seconds(traffic.per_pass, traffic.shard_gpus) + seconds(traffic.between_replicas, layout.ranks)
    in_blocks = seconds(traffic.in_tensors, layout.tensor) + seconds(traffic.in_contexts, layout.together)
    in_step = seconds(traffic.per_step, layout.ranks)
    backward = pass_s * 2 / 3
    return StepTime(
        arithmetic=passes * pass_s,
        communication=passes * (in_pass + in_blocks) + in_step,
        whole=passes * (max(pass_s, in_pass) + in_blocks) + max(0.0, in_step - backward),
    )
