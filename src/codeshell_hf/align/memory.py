"""Estimates the memory of the stages after pretraining on a GPU: by part, and by what a step does.

The logits are those of TRL's fused output layer, which computes them in tiles, and of what is held out, whose logits
are computed whole.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from ..configuration_codeshell import CodeShellConfig
from ..presets import count_block_matrices, count_block_numbers, count_ends, count_parameters, count_shared

FP32, BF16, NF4 = 4, 2, 4.127 / 8  # NF4 with scales that are quantised too: Dettmers et al. 2023, arXiv:2305.14314
# Of TRL's fused output layer: positions and entries of the vocabulary at a time.
TILE_TOKENS, TILE_ENTRIES = 4096, 32_768
# DeepSpeed's defaults for stage 3: parameters that stay gathered, and of a group that is stepped at a time.
LIVE_NUMBERS = STEPPED_NUMBERS = 1_000_000_000
# A position's logits to choose a token: in the compute dtype and float32, sorted, with their order and sums.
CHOICE_BYTES = 32
# A position's logits where its loss is measured: in float32, and their log-softmax.
MEASURED_BYTES = 2 * FP32
# The blocks' linear layers by PEFT's names: those of inputs and outputs by the width, the queries, and the MLP.
LAYERS = ("c_attn", "c_proj", "c_fc")


@dataclass(frozen=True)
class Placement:
    """How a stage's models lie on the GPUs.

    Args:
        kind: "ddp", whole on each; "fsdp2"; "zero", DeepSpeed.
        stage: ZeRO's: at 2 only gradients and moments are sharded.
        ranks: GPUs.
        shards: GPUs that share one copy of what is sharded.
        reshards: Whether FSDP2 frees a block's parameters after its forward pass.
        offloads: Whether shards are in CPU memory.
        is_bf16: Whether matrix products are in bfloat16; else float32.
        recomputes: Whether the trained model only keeps the inputs of its blocks.
        gathers: Whether ZeRO-3 gathers the whole policy to generate.
    """

    kind: Literal["ddp", "fsdp2", "zero"] = "ddp"
    stage: int = 3
    ranks: int = 1
    shards: int = 1
    reshards: bool = True
    offloads: bool = False
    is_bf16: bool = True
    recomputes: bool = True
    gathers: bool = True

    @property
    def size(self) -> int:
        """Bytes of a number in matrix products."""
        return BF16 if self.is_bf16 else FP32

    @property
    def is_gathered(self) -> bool:
        """Whether parameters are sharded, and gathered block by block."""
        return self.kind == "fsdp2" or (self.kind == "zero" and self.stage == 3)


@dataclass(frozen=True)
class Adapted:
    """A low-rank adapter: its numbers, and whether the blocks' matrices are in four bits."""

    numbers: int
    is_4bit: bool = False


@dataclass(frozen=True)
class Sampled:
    """Answers that are sampled together.

    Args:
        rows: Their number.
        prompts: Rows of the first forward pass, which one prompt's answers may share.
        prompt_tokens: Of the longest prompt, as `answer_tokens` of the longest answer.
    """

    rows: int
    prompts: int
    prompt_tokens: int
    answer_tokens: int

    @property
    def tokens(self) -> int:
        """All positions of the cache."""
        return self.rows * (self.prompt_tokens + self.answer_tokens)


@dataclass(frozen=True)
class StageModels:
    """What a stage loads.

    Args:
        policy: The architecture of what is trained.
        has_head: Whether it has an output layer for tokens; a reward model has one for a score.
        adapter: `None` if all weights are trained.
        has_reference: Whether the initial policy is kept.
        rewards: Architectures of reward models.
    """

    policy: CodeShellConfig
    has_head: bool = True
    adapter: Adapted | None = None
    has_reference: bool = False
    rewards: Sequence[CodeShellConfig] = ()


@dataclass(frozen=True)
class StageTokens:
    """The largest passes of a GPU.

    Args:
        trained: Tokens of a forward pass with gradients.
        compared: Of one of the reference between that and its backward pass.
        scored: Of one without gradients, by the reference or a reward model, after answers were sampled.
        held_out: Of one over held-out rows, whose logits are computed whole if the model has an output layer.
        rollout: Answers that are sampled to train on.
        measured: Answers to held-out prompts.
    """

    trained: int
    compared: int = 0
    scored: int = 0
    held_out: int = 0
    rollout: Sampled | None = None
    measured: Sampled | None = None


@dataclass(frozen=True)
class StageMemory:
    """Bytes on one GPU at the peak of one part of a step.

    Args:
        policy: Its weights, with the copy in which it computes, and its adapter.
        reference: Likewise.
        rewards: Of all reward models.
        gathered: Parameters gathered from other GPUs, and their gradients before they are reduced.
        activations: Saved for the backward pass, or held by a forward pass without one.
        logits: Of a tile or of whole rows, with what is computed from them.
        cache: Keys and values of what is being generated.
    """

    policy: float = 0.0
    reference: float = 0.0
    rewards: float = 0.0
    gradients: float = 0.0
    moments: float = 0.0
    gathered: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return float(sum(getattr(self, part) for part in PARTS))


PARTS = tuple(one.name for one in fields(StageMemory))


def count_adapter(config: CodeShellConfig, rank: int, layers: Collection[str] | str) -> int:
    """Numbers of a LoRA of a rank on linear layers of the blocks, by PEFT's names or "all-linear"."""
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    gate = 2 if config.activation_function == "swiglu" else 1
    sizes = {
        "c_attn": 2 * width + 2 * count_shared(config),
        "c_proj": 2 * width + width + inner,
        "c_fc": width + gate * inner,
    }
    chosen = LAYERS if layers == "all-linear" else layers
    return int(config.n_layer * rank * sum(size for name, size in sizes.items() if name in chosen))


def count_numbers(config: CodeShellConfig, *, has_head: bool) -> int:
    """Parameters with or without an output layer of its own."""
    own_head = 0 if has_head or config.tie_word_embeddings else config.vocab_size * config.n_embd
    return count_parameters(config) - own_head


def count_block(config: CodeShellConfig, placement: Placement, tokens: int) -> float:
    """Bytes that a block saves of tokens; under autocast alone, the residual stream is in float32."""
    wide = 2 * (FP32 - placement.size) * config.n_embd if placement.kind == "ddp" else 0
    of_norms = 2 * 2 * FP32 + FP32 * config.n_head
    return float(tokens * (placement.size * count_block_numbers(config) + wide + of_norms))


def count_forward(config: CodeShellConfig, placement: Placement, tokens: int) -> float:
    """Bytes that a block holds at most of tokens in a forward pass that saves nothing: within attention or the MLP."""
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    gate = 3 if config.activation_function == "swiglu" else 2
    numbers = max(5 * width + 3 * count_shared(config), 2 * width + gate * inner)
    wide = (FP32 - placement.size) * width if placement.kind == "ddp" else 0
    return float(tokens * (placement.size * numbers + wide))


def count_activations(config: CodeShellConfig, placement: Placement, tokens: int) -> float:
    """Bytes that a forward pass of tokens saves, without logits."""
    block = count_block(config, placement, tokens)
    size = FP32 if placement.kind == "ddp" else placement.size
    inputs = tokens * size * config.n_embd
    kept = inputs * config.n_layer + block if placement.recomputes else block * config.n_layer
    return float(kept + 2 * inputs)


def count_gathered(config: CodeShellConfig, placement: Placement, *, has_head: bool = True) -> float:
    """Bytes of a model's parameters that are gathered at a time: its ends, the current block and the next one."""
    numbers = count_numbers(config, has_head=has_head)
    ends = count_ends(config) - (count_parameters(config) - numbers)
    block = (numbers - ends) / config.n_layer
    if not placement.is_gathered:
        return 0.0
    held = ends + block * (2 if placement.reshards else config.n_layer)
    if placement.kind == "zero":
        held = min(float(numbers), max(held, LIVE_NUMBERS))
    return float(held * placement.size)


def count_tile(config: CodeShellConfig, placement: Placement, tokens: int) -> float:
    """Bytes of a tile of logits, and of the part of the output layer that computes it, cast under autocast."""
    cast = min(TILE_ENTRIES, config.vocab_size) * config.n_embd if placement.is_bf16 else 0
    return float(placement.size * (min(tokens, TILE_TOKENS) * TILE_ENTRIES + cast))


def count_cache(config: CodeShellConfig, placement: Placement, sampled: Sampled) -> float:
    """Bytes of keys and values, of which a layer's are copied as a token is added."""
    a_layer = 2 * count_shared(config) * placement.size * sampled.tokens
    return float(a_layer * (config.n_layer + 1))


def _hold_policy(models: StageModels, placement: Placement) -> StageMemory:
    """Weights, gradients and moments of what is trained."""
    config, adapter, shards = models.policy, models.adapter, placement.shards
    numbers = count_numbers(config, has_head=models.has_head)
    trained = numbers if adapter is None else adapter.numbers
    base = 0.0 if adapter is None else float(numbers)
    in_4bit = count_block_matrices(config) if adapter is not None and adapter.is_4bit else 0
    copy = placement.size if placement.is_bf16 else 0
    # The frozen weights of an adapter are cast for each product; those of a block are saved while it is recomputed.
    cast = copy * base / (config.n_layer if placement.recomputes else 1)
    if adapter is not None and adapter.is_4bit:
        frozen = in_4bit * NF4 + (base - in_4bit) * placement.size
        cast = placement.size * in_4bit / (config.n_layer if placement.recomputes else 1)
    elif placement.is_gathered:
        frozen, cast = base * (FP32 if placement.kind == "fsdp2" else placement.size) / shards, 0.0
    elif placement.kind == "zero":
        frozen, cast = base * placement.size, 0.0
    else:
        frozen = base * FP32
    if placement.kind == "ddp":
        weights = float(trained * (FP32 + copy))
        gradients = 1.0 * trained * FP32 * (2 if placement.ranks > 1 else 1)  # DDP's buckets
    elif placement.kind == "fsdp2":
        weights, gradients = trained * FP32 / shards, trained * FP32 / shards
    else:
        weights = trained * placement.size / (shards if placement.stage == 3 else 1) + trained * FP32 / shards
        stepped = min(trained / shards, STEPPED_NUMBERS) if placement.stage == 3 else trained / shards
        gradients = trained * placement.size / shards + (stepped * FP32 if placement.is_bf16 else 0)
    whole = placement.kind == "zero" and placement.stage == 2
    if placement.offloads and placement.kind != "ddp":
        kept = trained * placement.size if whole else 0.0
        return StageMemory(policy=kept + cast)
    moments = trained * 2 * FP32 / (1 if placement.kind == "ddp" else shards)
    return StageMemory(policy=weights + frozen + cast, gradients=gradients, moments=moments)


def _hold_frozen(config: CodeShellConfig, placement: Placement, *, is_reference: bool) -> float:
    """Weights of a model that is not trained; autocast keeps a copy of those that are not marked so, as TRL's are."""
    numbers = count_numbers(config, has_head=is_reference)
    if placement.kind == "ddp":
        return float(numbers * (FP32 + (placement.size if placement.is_bf16 and is_reference else 0)))
    if placement.kind == "zero":
        return float(numbers * placement.size / (placement.shards if placement.stage == 3 else 1))
    return 0.0 if placement.offloads else float(numbers * FP32 / placement.shards)


def estimate_stage(models: StageModels, placement: Placement, tokens: StageTokens) -> dict[str, StageMemory]:
    """Estimates the peak of each part of a step: "training", "generating", "scoring" and "measuring"."""
    config = models.policy
    own = _hold_policy(models, placement)
    held = replace(
        own,
        reference=_hold_frozen(config, placement, is_reference=True) if models.has_reference else 0.0,
        rewards=sum(_hold_frozen(reward, placement, is_reference=False) for reward in models.rewards),
    )
    found = {"training": _train(models, held, placement, tokens)}
    # Between steps there are no gradients, but the buffers of DDP and ZeRO.
    kept = {"ddp": own.gradients / 2 if placement.ranks > 1 else 0.0, "fsdp2": 0.0, "zero": own.gradients}
    idle = replace(held, gradients=kept[placement.kind])
    if tokens.rollout is not None:
        whole = placement.kind == "zero" and placement.stage == 3 and placement.gathers
        size = count_parameters(config) * placement.size
        found["generating"] = _generate(config, idle, placement, tokens.rollout, gathered=size if whole else None)
    if tokens.scored:
        scorers = [config, *models.rewards]
        found["scoring"] = replace(
            idle,
            gathered=max(count_gathered(one, placement) for one in scorers),
            activations=max(count_forward(one, placement, tokens.scored) for one in scorers),
            logits=count_tile(config, placement, tokens.trained),
        )
    if tokens.held_out or tokens.measured:
        found["measuring"] = _measure(models, idle, placement, tokens)
    return found


def _train(models: StageModels, held: StageMemory, placement: Placement, tokens: StageTokens) -> StageMemory:
    config = models.policy
    numbers = count_numbers(config, has_head=models.has_head)
    ends = count_ends(config) - (count_parameters(config) - numbers)
    gathered = count_gathered(config, placement, has_head=models.has_head)
    if placement.is_gathered and models.adapter is None:
        gathered += max(ends, (numbers - ends) / config.n_layer) * FP32
    activations = count_activations(config, placement, tokens.trained)
    if tokens.compared and models.has_reference:
        gathered += count_gathered(config, placement)
        if not placement.recomputes:  # else the block that is computed again takes as much
            activations += count_forward(config, placement, tokens.compared)
    logits = 0.0
    if models.has_head:
        output = config.vocab_size * config.n_embd if models.adapter is None else 0
        logits = count_tile(config, placement, tokens.trained) + FP32 * (output + tokens.trained * config.n_embd)
    return replace(held, gathered=gathered, activations=activations, logits=logits)


def _generate(
    config: CodeShellConfig, held: StageMemory, placement: Placement, sampled: Sampled, *, gathered: float | None
) -> StageMemory:
    return replace(
        held,
        gathered=count_gathered(config, placement) if gathered is None else gathered,
        activations=count_forward(config, placement, sampled.prompts * sampled.prompt_tokens),
        logits=CHOICE_BYTES * float(sampled.rows * config.vocab_size),
        cache=count_cache(config, placement, sampled),
    )


def _measure(models: StageModels, held: StageMemory, placement: Placement, tokens: StageTokens) -> StageMemory:
    config = models.policy
    found = [held]
    if tokens.held_out:
        gathered = count_gathered(config, placement, has_head=models.has_head)
        forward = count_forward(config, placement, tokens.held_out)
        found.append(replace(held, gathered=gathered, activations=forward))
        if models.has_head:  # once the blocks are done
            logits = float(tokens.held_out * config.vocab_size) * MEASURED_BYTES
            hidden = float(tokens.held_out * config.n_embd * 2 * FP32)
            found.append(replace(held, gathered=gathered, activations=hidden, logits=logits))
    if tokens.measured is not None:
        found.append(_generate(config, held, placement, tokens.measured, gathered=None))
        found += [
            replace(
                held,
                gathered=count_gathered(one, placement, has_head=False),
                activations=count_forward(one, placement, tokens.measured.tokens),
            )
            for one in models.rewards
        ]
    return max(found, key=lambda one: one.total)
