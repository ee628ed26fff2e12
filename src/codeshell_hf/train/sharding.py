"""Reads from accelerate's file how a model and its optimisers are sharded over ranks.

`accelerate launch` passes its file on as environment variables; torchrun does not, so the recipe names the file.
accelerate itself silently ignores FSDP and DeepSpeed on a CPU, so both are read here and applied by the engines on
every device.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from ..errors import SettingsError

if TYPE_CHECKING:
    from ..configuration_codeshell import CodeShellConfig
    from ..precision import RequestedPrecision
    from .settings import Fp8Scaling, OptimizerSettings

ZERO_STAGES = (2, 3)
FP8_MULTIPLE = 16  # of the sides of a matrix whose products are in 8 bits
SIZES = ("dp_replicate", "tp", "cp", "sp")  # of accelerate's ParallelismConfig; dp_shard is what remains of the ranks
# accelerate's default "no" requests nothing.
_PRECISIONS: "dict[str, RequestedPrecision]" = {"no": "auto", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Sharding:
    """How the model is sharded.

    Args:
        kind: "ddp", not at all; "fsdp2", parameters, gradients and moments; "zero", DeepSpeed.
        stage: ZeRO's: 2 shards gradients and moments, 3 parameters as well.
        replicas: FSDP2's: number of replicas, each sharded over its own group of ranks.
        reshards: FSDP2's: whether a block's parameters are freed after its forward pass.
        offloads: Whether shards are in CPU memory.
        tensor: FSDP2's: ranks that share each block's matrices (tensor parallelism).
        context: FSDP2's: ranks that share each row's positions (context parallelism).
    """

    kind: Literal["ddp", "fsdp2", "zero"] = "ddp"
    stage: int = 3
    replicas: int = 1
    reshards: bool = True
    offloads: bool = False
    tensor: int = 1
    context: int = 1

    @property
    def together(self) -> int:
        """Ranks that compute the same rows."""
        return self.tensor * self.context

    @property
    def row_pieces(self) -> int:
        """The number that must divide a row's length: contexts have two chunks of it each, tensors an equal part."""
        return (2 * self.context if self.context > 1 else 1) * self.tensor

    def __str__(self) -> str:
        if self.kind == "ddp":
            return "DDP"
        name = f"ZeRO-{self.stage}" if self.kind == "zero" else "FSDP2"
        return (
            name
            + (f" in {self.replicas} replicas" if self.replicas > 1 else "")
            + (f", tp {self.tensor}" if self.tensor > 1 else "")
            + (f", cp {self.context}" if self.context > 1 else "")
            + (", offloaded" if self.offloads else "")
        )


def read_sharding(file: Path | None, *, precision: "RequestedPrecision") -> "tuple[Sharding, RequestedPrecision]":
    """Reads the sharding, and the precision that the recipe or accelerate requests.

    Args:
        file: accelerate's file, for processes started by torchrun; `None` under accelerate, or without sharding.
        precision: The recipe's setting.

    Raises:
        SettingsError: If the file cannot be read, requests something unsupported, or contradicts the launcher or the
            recipe.
    """
    launched = _read_environment(os.environ)
    named = None
    if file is not None:
        try:
            named = _read_file(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise SettingsError(
                f"accelerate is {file}, which cannot be read ({error}); name accelerate's file"
            ) from error
    if launched is not None and named is not None and launched != named:
        raise SettingsError(f"accelerate launch was given another file than {file}; name the same, or only one")
    sharding, mixed = launched or named or (Sharding(), "no")
    if mixed not in _PRECISIONS:
        raise SettingsError(f'accelerate\'s file asks for mixed_precision {mixed}; set it to bf16 or "no"')
    if _PRECISIONS[mixed] == "auto":
        return sharding, precision
    if precision not in ("auto", _PRECISIONS[mixed]):
        raise SettingsError(f"accelerate's file asks for another mixed_precision than {precision}; make them agree")
    return sharding, _PRECISIONS[mixed]


def check_model(config: "CodeShellConfig", sharding: Sharding, row_lengths: Sequence[int]) -> None:
    """Checks that a model and its rows can be split.

    Raises:
        SettingsError: Names the size that cannot be divided.
    """
    tensors, contexts = sharding.tensor, sharding.context
    parts = {
        "heads": config.n_head,
        "query groups": config.num_key_value_heads,
        "numbers inside the MLP (n_inner)": config.intermediate_size,
    }
    for name, size in parts.items():
        if size % tensors:
            raise SettingsError(
                f"the model has {size} {name}, which tp {tensors} does not divide; set parallelism_config_tp_size to "
                "a divisor"
            )
    pieces = sharding.row_pieces
    for row_tokens in row_lengths:
        if row_tokens % pieces:
            raise SettingsError(
                f"schedule.phases has rows of {row_tokens} tokens, which cp {contexts} and tp {tensors} do not divide "
                f"into {pieces} parts; set row_tokens to a multiple of {pieces}"
            )
    if contexts > 1 and config.attn_pdrop:
        raise SettingsError(
            f"model.changes.attn_pdrop is {config.attn_pdrop}, but attention over cp {contexts} drops nothing; set it "
            "to 0"
        )


def check_optimizer(optimizer: "OptimizerSettings", sharding: Sharding, ranks: int, *, is_bf16: bool) -> None:
    """Checks that an optimiser runs on a sharded model, and stores weights and moments as asked for.

    Args:
        is_bf16: Whether matrix products are in bfloat16.

    Raises:
        SettingsError: Names the setting that cannot be.
    """
    if optimizer.name != "adamw" and sharding.kind == "zero":
        raise SettingsError(f"optimizer.name is {optimizer.name}, but ZeRO supports only AdamW; set it to adamw")
    if optimizer.name != "adamw" and sharding.together > 1:
        raise SettingsError(
            f"optimizer.name is {optimizer.name}, which needs whole matrices, but tp and cp support only AdamW; set it "
            "to adamw"
        )
    # Tensor parallelism divides columns too, and so blocks of numbers with a common scale.
    if optimizer.moments != "float32" and (sharding.kind == "zero" or sharding.together > 1):
        raise SettingsError(
            f"optimizer.moments is {optimizer.moments}, but {sharding} supports only float32; set it to float32 or "
            "shard with recipes/accelerate/fsdp2.yaml"
        )
    if optimizer.weights == "float32":
        return
    if sharding.kind != "ddp" or ranks > 1:
        raise SettingsError(
            f"optimizer.weights is {optimizer.weights}, which is for one GPU without sharding, and this is "
            f"{sharding} on {ranks}; set it to float32: FSDP2 divides the weights among GPUs"
        )
    if not is_bf16:
        raise SettingsError(
            f"optimizer.weights is {optimizer.weights}, but precision is float32; set precision: bfloat16"
        )


def check_fp8(config: "CodeShellConfig", scaling: "Fp8Scaling | None", sharding: Sharding) -> None:
    """Checks that the blocks' products can be computed in 8 bits.

    Raises:
        SettingsError: Names the sharding or the size that does not allow it.
    """
    if scaling is None:
        return
    if sharding.kind == "zero" or sharding.tensor > 1:
        raise SettingsError(
            f"fp8 is {scaling}, but {sharding} supports none; set fp8: null, or shard with "
            "recipes/accelerate/fsdp2.yaml"
        )
    keys = config.hidden_size // config.n_head * config.num_key_value_heads
    sizes = {
        "n_embd": config.hidden_size,
        "n_inner": config.intermediate_size,
        "queries, keys and values together": config.hidden_size + 2 * keys,
    }
    for name, size in sizes.items():
        if size % FP8_MULTIPLE:
            raise SettingsError(
                f"fp8 is {scaling}, which needs widths that are multiples of {FP8_MULTIPLE}, but the model has {size} "
                f"({name}); change the model or set fp8: null"
            )


def _read_environment(given: Mapping[str, str]) -> tuple[Sharding, str] | None:
    def holds(name: str) -> bool:
        return given.get(name, "false").lower() in ("1", "true", "yes")

    precision = given.get("ACCELERATE_MIXED_PRECISION", "no")
    if holds("ACCELERATE_USE_FSDP"):
        sharding = _make_fsdp(
            version=int(given.get("FSDP_VERSION", "1")),
            reshards=holds("FSDP_RESHARD_AFTER_FORWARD"),
            offloads=holds("FSDP_OFFLOAD_PARAMS"),
            sizes={name: given.get(f"PARALLELISM_CONFIG_{name.upper()}_SIZE", "1") for name in SIZES},
        )
        return sharding, precision
    if holds("ACCELERATE_USE_DEEPSPEED"):
        sharding = _make_zero(
            stage=int(given.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")),
            offloads=given.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none",
        )
        return sharding, precision
    return (Sharding(), precision) if "ACCELERATE_MIXED_PRECISION" in given else None


def _read_file(values: Mapping[str, object]) -> tuple[Sharding, str]:
    precision = str(values.get("mixed_precision", "no"))
    kind = values.get("distributed_type", "NO")
    parallel = _section(values, "parallelism_config")
    if kind != "FSDP":
        for name in ("tp", "cp", "sp"):
            if (size := _to_size(name, parallel.get(f"parallelism_config_{name}_size", 1))) > 1:
                raise SettingsError(
                    f"accelerate's file has parallelism_config_{name}_size {size}, but distributed_type {kind}; set it "
                    "to FSDP, as in recipes/accelerate/mesh.yaml"
                )
    if kind == "FSDP":
        fsdp = _section(values, "fsdp_config")
        sharding = _make_fsdp(
            version=_to_int(fsdp.get("fsdp_version", 1)),
            reshards=bool(fsdp.get("fsdp_reshard_after_forward", True)),
            offloads=bool(fsdp.get("fsdp_offload_params", False)),
            sizes={name: parallel.get(f"parallelism_config_{name}_size", 1) for name in SIZES},
        )
        return sharding, precision
    if kind == "DEEPSPEED":
        zero = _section(values, "deepspeed_config")
        sharding = _make_zero(
            stage=_to_int(zero.get("zero_stage", 2)), offloads=zero.get("offload_optimizer_device", "none") != "none"
        )
        return sharding, precision
    return Sharding(), precision


def _make_fsdp(*, version: int, reshards: bool, offloads: bool, sizes: Mapping[str, object]) -> Sharding:
    if version != 2:
        raise SettingsError(f"accelerate's file asks for FSDP{version}; set fsdp_version to 2")
    found = {name: _to_size(name, value) for name, value in sizes.items()}
    if found["sp"] > 1:
        raise SettingsError(
            f"accelerate's file asks for sequence parallelism (sp_size {found['sp']}), which is DeepSpeed's; set "
            "parallelism_config_cp_size, or parallelism_config_tp_size, which splits the positions between blocks too"
        )
    return Sharding(
        "fsdp2", reshards=reshards, offloads=offloads,
        replicas=found["dp_replicate"], tensor=found["tp"], context=found["cp"],
    )  # fmt: skip


def _to_size(name: str, value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise SettingsError(f"accelerate's file has parallelism_config_{name}_size {text}; set it to 1 or more ranks")
    return int(text)


def _make_zero(*, stage: int, offloads: bool) -> Sharding:
    if stage not in ZERO_STAGES:
        raise SettingsError(f"accelerate's file asks for ZeRO-{stage}; set zero_stage to 2 or 3")
    return Sharding("zero", stage=stage, offloads=offloads)


def _section(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} is {section!r}, not a section")
    return section


def _to_int(value: object) -> int:
    return int(str(value))
