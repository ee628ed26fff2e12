"""Estimates a training step's memory on a device, by part."""

from dataclasses import dataclass
from typing import Literal

from ..configuration_codeshell import CodeShellConfig
from ..presets import count_block_matrices, count_block_numbers, count_ends, count_parameters, count_shared
from .compact_adamw import BLOCK
from .loss import HELD_LOGITS
from .settings import Fp8Scaling, MomentFormat

FP32, BF16 = 4, 2
# For the driver, the communication library and torch's allocator; a guess, not measured.
RESERVED_GB = 6.0


@dataclass(frozen=True)
class Layout:
    """How a step is laid out over devices.

    Args:
        kind: As in `Sharding`, like `stage`, `replicas` and `offloads`.
        ranks: Number of devices.
        micro_tokens: Tokens of the forward pass of a device, or of the devices that compute the same rows.
        reshards: As in `Sharding`.
        optimizer: The name of `OptimizerSettings`, like `moments` and `weights`.
        fp8: As in `ComputeSettings`; not counted, since it takes no more memory than without.
        tensor: As in `Sharding`, like `context`.
    """

    kind: Literal["ddp", "fsdp2", "zero"]
    stage: int
    ranks: int
    micro_tokens: int
    replicas: int = 1
    reshards: bool = True
    is_bf16: bool = True
    recomputes: bool = False
    offloads: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"
    moments: MomentFormat = "float32"
    weights: Literal["float32", "bfloat16"] = "float32"
    tensor: int = 1
    context: int = 1
    fp8: Fp8Scaling | None = None

    @property
    def together(self) -> int:
        """Devices that compute the same rows."""
        return self.tensor * self.context

    @property
    def moment_bytes(self) -> float:
        """Of both of AdamW's moments of a matrix's number."""
        return {"float32": 2 * FP32, "bfloat16": 2 * BF16, "8bit": 2 * (1 + FP32 / BLOCK)}[self.moments]

    @property
    def weight_bytes(self) -> int:
        """Of a matrix's number, without a copy in the compute dtype."""
        return FP32 if self.weights == "float32" else BF16

    @property
    def readers(self) -> int:
        """Devices, or groups of those that compute the same rows."""
        return self.ranks // self.together


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Args:
        weights: Parameters in float32, and their copy in the compute dtype.
        gathered: Parameters gathered from other ranks, and their gradients before they are reduced.
        activations: Saved by the forward pass for the backward pass.
        logits: Of a chunk, with their gradients.
    """

    weights: float
    gradients: float
    moments: float
    gathered: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.weights + self.gradients + self.moments + self.gathered + self.activations + self.logits


def count_activations(config: CodeShellConfig, layout: Layout) -> float:
    """Bytes that a forward pass saves, without logits.

    A tensor group shares all but what it gathers for both matrices that read the residual stream. A context group
    shares the positions, but for the keys and values that each rank gathers.
    """
    width, tensors = config.n_embd, layout.tensor
    size = BF16 if layout.is_bf16 else FP32
    read = 2 * width
    block = (
        size * ((count_block_numbers(config) - read) / tensors + read) + 2 * 2 * size + FP32 * config.n_head / tensors
    )
    if layout.context > 1:
        block += layout.context * size * 2 * count_shared(config) / tensors
    inputs = size * width / tensors
    kept = inputs * config.n_layer + block if layout.recomputes else block * config.n_layer
    ends = 2 * inputs + 2 * FP32 * (width // config.n_head)
    return float(layout.micro_tokens / layout.context * (kept + ends))


def count_logits(config: CodeShellConfig, layout: Layout) -> float:
    """Bytes of the logits in float32 and the compute dtype; or of a chunk, with the gradients saved beside it."""
    size = BF16 if layout.is_bf16 else FP32
    tokens = layout.micro_tokens / layout.together
    logits = tokens * config.vocab_size
    if logits <= HELD_LOGITS:
        return float(logits * (FP32 + FP32 + (size if layout.is_bf16 else 0)))
    kept = FP32 * config.vocab_size * config.n_embd + size * tokens * config.n_embd
    return float(HELD_LOGITS * (FP32 + size) + kept)


def count_moment_bytes(config: CodeShellConfig, layout: Layout) -> float:
    """Of all moments; the blocks' matrices have one with Muon, always in float32."""
    numbers = count_parameters(config)
    if layout.optimizer == "adamw":
        return numbers * layout.moment_bytes
    matrices = count_block_matrices(config)
    return matrices * FP32 + (numbers - matrices) * layout.moment_bytes


def estimate_memory(config: CodeShellConfig, layout: Layout) -> Memory:
    """Estimates the peak memory of a device, by part."""
    numbers = count_parameters(config)
    moments = count_moment_bytes(config, layout)
    shares = layout.ranks // layout.replicas
    copy = BF16 if layout.is_bf16 and layout.weights == "float32" else 0  # autocast's, or ZeRO's own
    ends = count_ends(config)
    block = (numbers - ends) / config.n_layer / layout.tensor
    size = BF16 if layout.is_bf16 else FP32
    if layout.kind == "ddp":
        held = Memory(numbers * (layout.weight_bytes + copy), numbers * FP32, moments, 0.0, 0.0, 0.0)
    elif layout.kind == "zero" and layout.stage == 2:
        whole = numbers * size
        shared = numbers * FP32 / shares if layout.is_bf16 else 0.0
        held = Memory(whole + shared, numbers * FP32 / shares, moments / shares, block * size, 0.0, 0.0)
    else:
        # Embedding and output layer stay gathered through the step; so are the current block and the prefetched one.
        whole = ends + block * (2 if layout.reshards else config.n_layer)
        gathered = whole * size + max(ends, block) * FP32
        held = Memory(numbers * FP32 / shares, numbers * FP32 / shares, moments / shares, gathered, 0.0, 0.0)
    if layout.offloads and layout.kind != "ddp":
        keeps = numbers * size if layout.kind == "zero" and layout.stage == 2 else 0.0
        held = Memory(keeps, 0.0, 0.0, held.gathered, 0.0, 0.0)
    return Memory(
        held.weights,
        held.gradients,
        held.moments,
        held.gathered,
        count_activations(config, layout),
        count_logits(config, layout),
    )
