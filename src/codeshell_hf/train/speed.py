"""Predicts how long a step takes on a cluster: arithmetic by measured rates, and communication between GPUs."""

from dataclasses import dataclass, replace

from ..configuration_codeshell import CodeShellConfig
from ..presets import count_parameters
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
    """

    per_pass: float
    per_step: float
    shard_gpus: int
    between_replicas: float = 0.0


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
    share = FA4_SHARE if attention == VARLEN_FA4 else ATTENTION_SHARE
    kept = count_activations(config, replace(layout, recomputes=False)) / layout.micro_tokens
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
    return Traffic(sent * numbers * (gathers * size + gradient), 0.0, shards, reduced * numbers * FP32 / shards)


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
    in_step = seconds(traffic.per_step, layout.ranks)
    backward = pass_s * 2 / 3
    return StepTime(
        arithmetic=passes * pass_s,
        communication=passes * in_pass + in_step,
        whole=passes * max(pass_s, in_pass) + max(0.0, in_step - backward),
    )
