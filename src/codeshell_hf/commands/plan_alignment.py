"""Plans a stage after pretraining: the memory of a GPU, by part and by what a step does."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .chain import LAUNCH, Launch, Launches
from .workspace import find_file

if TYPE_CHECKING:
    from ..align.memory import Placement, StageMemory
    from ..align.stage_sizes import StageOptions
    from ..configuration_codeshell import CodeShellConfig
    from ..precision import RequestedPrecision
    from ..train.plan import Cluster
    from ..train.sharding import Sharding

STAGES = ("sft", "reward", "rlhf", "dpo")
# What makes the largest part smaller, by what the step does.
MENDS = {
    ("training", "activations"): "set trainer.activation_checkpointing: true, or lower "
    "trainer.per_device_train_batch_size or the longest row",
    ("generating", "activations"): "lower max_prompt_tokens, or trainer.gradient_accumulation_steps, whose answers are "
    "sampled together",
    ("generating", "cache"): "lower max_prompt_tokens, or trainer.gradient_accumulation_steps, whose answers are "
    "sampled together",
    ("generating", "gathered"): "set trainer.ds3_gather_for_generation: false",
    ("scoring", "activations"): "lower max_prompt_tokens, or trainer.gradient_accumulation_steps, whose answers are "
    "scored together",
    ("measuring", "activations"): "lower measure.batch_size, measure.max_prompt_tokens or "
    "trainer.per_device_eval_batch_size",
    ("measuring", "cache"): "lower measure.batch_size or measure.max_prompt_tokens",
    ("measuring", "logits"): "lower trainer.per_device_eval_batch_size",
}


def plan_alignment(stage: str, path: Path, cluster: Mapping[str, str], overrides: Sequence[str]) -> list[str]:
    """Plans a stage; returns lines to print.

    The GPUs and accelerate's file are those of `launch.yaml` beside the recipe, if they are not given.

    Args:
        stage: One of `STAGES`.
        path: The recipe.
        cluster: Values of `gpus` and `gpu`, and of `accelerate`, accelerate's file.
        overrides: Changes of the recipe.

    Raises:
        SettingsError: If a value is wrong, or the stage does not fit; the error names the setting to change.
    """
    from ..align.memory import estimate_stage
    from ..align.stage_sizes import StageOptions, size_models, size_tokens
    from ..align.trainer_config import agree_on_precision
    from ..presets import count_parameters
    from ..settings import load_settings
    from ..train.plan import read_cluster
    from ..train.sharding import read_sharding

    settings = load_settings(importlib.import_module(f"recipes.{stage}").Settings, path, overrides)
    launch = _read_launch(stage, path)
    ranks = cluster.get("gpus", str(launch.ranks) if launch else "1")
    gpus = read_cluster(ranks, **{name: cluster[name] for name in ("gpu",) if name in cluster})
    given = cluster.get("accelerate")
    named = Path(given) if given is not None else launch.accelerate if launch else None
    file = None if named is None else find_file(named)
    word = cast("RequestedPrecision", agree_on_precision(settings.precision, settings.trainer, "no"))
    sharding, precision = read_sharding(file, precision=word)
    policy = read_architecture(settings.model, path)
    method = getattr(settings, "method", "")
    options = StageOptions(
        stage=stage,  # type: ignore[arg-type]  # one of STAGES
        method=method,
        trainer=importlib.import_module("recipes.with_trl").read_options(stage, method, settings.trainer),
        adapter=settings.adapter,
        measure=getattr(settings, "measure", None),
        rewards=[
            read_architecture(reward.path, path)
            for reward in getattr(settings, "rewards", ())
            if reward.kind == "model"
        ],
        longest_prompt=getattr(settings, "max_prompt_tokens", None),
    )
    placement = _place(sharding, gpus.gpus, options, is_bf16=precision != "float32")
    tokens = size_tokens(policy, options, gpus.gpus)
    phases = estimate_stage(size_models(policy, options), placement, tokens)
    _check(stage, phases, gpus, str(sharding))
    rows = [f"rows of up to {tokens.trained:,} tokens a forward pass with gradients"]
    if tokens.rollout is not None:
        rollout = tokens.rollout
        rows.append(
            f"{rollout.rows} answers of up to {rollout.answer_tokens:,} tokens to prompts of up to "
            f"{rollout.prompt_tokens:,} are sampled together"
        )
    return [
        f"{stage} of {count_parameters(policy):,} parameters by {sharding} on {gpus.gpus} x {gpus.gpu}",
        *rows,
        "",
        *_draw(phases, gpus),
    ]


def read_architecture(folder: Path, recipe: Path) -> "CodeShellConfig":
    """The architecture of a model: its folder's or, where that does not exist, of the system's `pretrain.yaml`.

    Raises:
        SettingsError: If there is neither.
    """
    from ..configuration_codeshell import CodeShellConfig
    from ..errors import SettingsError
    from ..settings import load_settings
    from ..train.model import configure_model

    if (folder / "config.json").is_file():
        config: CodeShellConfig = CodeShellConfig.from_pretrained(folder)
        return config
    pretrain = recipe.parent / "pretrain.yaml"
    if not pretrain.is_file():
        raise SettingsError(
            f"{folder} has no config.json, and {pretrain} does not exist; name a model whose architecture is known"
        )
    settings = load_settings(importlib.import_module("recipes.pretrain").Settings, pretrain)
    return configure_model(settings.model, None, longest_row=0)


def _read_launch(stage: str, path: Path) -> Launch | None:
    from ..settings import load_settings

    file = path.parent / LAUNCH
    launch: Launch | None = getattr(load_settings(Launches, file), stage) if file.is_file() else None
    return launch


def _place(sharding: "Sharding", ranks: int, options: "StageOptions", *, is_bf16: bool) -> "Placement":
    from ..align.memory import Placement
    from ..errors import SettingsError

    if sharding.together > 1:
        raise SettingsError(f"accelerate's file asks for {sharding}, which is pretraining's; name fsdp2.yaml")
    if ranks % sharding.replicas:
        raise SettingsError(f"gpus is {ranks}, which {sharding.replicas} replicas do not divide; set a multiple")
    return Placement(
        kind=sharding.kind,
        stage=sharding.stage,
        ranks=ranks,
        shards=1 if sharding.kind == "ddp" else ranks // sharding.replicas,
        reshards=sharding.reshards,
        offloads=sharding.offloads,
        is_bf16=is_bf16,
        recomputes=options.recomputes(),
        gathers=bool(options.trainer.get("ds3_gather_for_generation", False)),
    )


def _check(stage: str, phases: "Mapping[str, StageMemory]", gpus: "Cluster", sharding: str) -> None:
    """Raises `SettingsError` if the stage does not fit."""
    from ..align.memory import PARTS
    from ..errors import SettingsError

    phase, memory = max(phases.items(), key=lambda one: one[1].total)
    if memory.total / 1e9 <= gpus.room_gb:
        return
    biggest = max(PARTS, key=lambda part: getattr(memory, part))
    mend = MENDS.get((phase, biggest), "take more GPUs with recipes/accelerate/zero3.yaml or fsdp2.yaml, or an adapter")
    raise SettingsError(
        f"{stage} by {sharding} needs {memory.total / 1e9:,.1f} GB a GPU when {phase}, where {gpus.gpu} leaves "
        f"{gpus.room_gb:.1f} ({biggest}: {getattr(memory, biggest) / 1e9:,.1f} GB); {mend}"
    )


def _draw(phases: "Mapping[str, StageMemory]", gpus: "Cluster") -> list[str]:
    """A table of parts by phases, in GB."""
    from ..align.memory import PARTS
    from ..train.memory import RESERVED_GB

    digits = 2 if max(memory.total for memory in phases.values()) > 10e9 else 3
    parts = [part for part in PARTS if any(getattr(memory, part) for memory in phases.values())]
    rows = [(part, [getattr(memory, part) for memory in phases.values()]) for part in parts]
    rows.append(("all", [memory.total for memory in phases.values()]))
    return [
        f"peak memory of a GPU in GB, of {gpus.room_gb:.1f}; {RESERVED_GB:.0f} are for driver and allocator",
        f"  {'':<14}" + "".join(f"{phase:>12}" for phase in phases),
        *(f"  {name:<14}" + "".join(f"{value / 1e9:>12.{digits}f}" for value in values) for name, values in rows),
    ]
