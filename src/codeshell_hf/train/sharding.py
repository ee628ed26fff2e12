"""Reads from accelerate's file how a model and its optimisers are sharded over ranks.

`accelerate launch` passes its file on as environment variables; torchrun does not, so the recipe names the file.
accelerate itself silently ignores FSDP and DeepSpeed on a CPU, so both are read here and applied by the engines on
every device.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from ..errors import SettingsError

if TYPE_CHECKING:
    from ..precision import RequestedPrecision

ZERO_STAGES = (2, 3)
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
    """

    kind: Literal["ddp", "fsdp2", "zero"] = "ddp"
    stage: int = 3
    replicas: int = 1
    reshards: bool = True
    offloads: bool = False

    def __str__(self) -> str:
        if self.kind == "ddp":
            return "DDP"
        name = f"ZeRO-{self.stage}" if self.kind == "zero" else "FSDP2"
        return (
            name
            + (f" in {self.replicas} replicas" if self.replicas > 1 else "")
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


def _read_environment(given: Mapping[str, str]) -> tuple[Sharding, str] | None:
    def holds(name: str) -> bool:
        return given.get(name, "false").lower() in ("1", "true", "yes")

    precision = given.get("ACCELERATE_MIXED_PRECISION", "no")
    if holds("ACCELERATE_USE_FSDP"):
        sharding = _make_fsdp(
            version=int(given.get("FSDP_VERSION", "1")),
            reshards=holds("FSDP_RESHARD_AFTER_FORWARD"),
            offloads=holds("FSDP_OFFLOAD_PARAMS"),
            replicas=int(given.get("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "1")),
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
    if kind == "FSDP":
        fsdp, parallel = _section(values, "fsdp_config"), _section(values, "parallelism_config")
        sharding = _make_fsdp(
            version=_to_int(fsdp.get("fsdp_version", 1)),
            reshards=bool(fsdp.get("fsdp_reshard_after_forward", True)),
            offloads=bool(fsdp.get("fsdp_offload_params", False)),
            replicas=_to_int(parallel.get("parallelism_config_dp_replicate_size", 1)),
        )
        return sharding, precision
    if kind == "DEEPSPEED":
        zero = _section(values, "deepspeed_config")
        sharding = _make_zero(
            stage=_to_int(zero.get("zero_stage", 2)), offloads=zero.get("offload_optimizer_device", "none") != "none"
        )
        return sharding, precision
    return Sharding(), precision


def _make_fsdp(*, version: int, reshards: bool, offloads: bool, replicas: int) -> Sharding:
    if version != 2:
        raise SettingsError(f"accelerate's file asks for FSDP{version}; set fsdp_version to 2")
    return Sharding("fsdp2", reshards=reshards, offloads=offloads, replicas=replicas)


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
