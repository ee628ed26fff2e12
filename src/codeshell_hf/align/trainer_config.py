"""Checks of a trainer's options and launcher, before the trainer is made."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec

from ..errors import SettingsError
from ..settings import unknown_key

TrainerOptions = Mapping[str, object]

# What `accelerate launch` sets if its file asks for a kind of sharding.
SHARDING = {"FSDP": "ACCELERATE_USE_FSDP", "DEEPSPEED": "ACCELERATE_USE_DEEPSPEED"}


def check_keys(options: TrainerOptions, known: Iterable[str], owned: Sequence[str]) -> None:
    """Raises `SettingsError` for options that are unknown, that the recipe decides (`owned`), or that need vLLM."""
    free = set(known) - set(owned)
    for key in options:
        if key in owned:
            raise SettingsError(f"trainer.{key} is decided by the recipe; take it out of the section trainer")
        if key not in free:
            raise SettingsError(unknown_key(key, free, "in the section trainer"))
    if options.get("use_vllm") and find_spec("vllm") is None:
        raise SettingsError(
            "trainer.use_vllm is true, but vllm is not installed; remove the key to generate with transformers "
            "(docs/rlhf.md says which releases of vLLM and transformers do not fit)"
        )


def agree_on_precision(precision: str, options: TrainerOptions, launched: str) -> str:
    """The precision requested by the setting, the section `trainer` or accelerate's launcher; "auto" if by none.

    Args:
        precision: The setting.
        options: The section `trainer`, perhaps with `bf16` or `fp16`.
        launched: accelerate's mixed precision, such as "no" or "bf16".

    Raises:
        SettingsError: If two of them name different ones.
    """
    requested = {"precision": precision}
    if "bf16" in options:
        requested["trainer.bf16"] = "bfloat16" if options["bf16"] else "float32"
    if options.get("fp16"):
        requested["trainer.fp16"] = "float16"
        if not options.get("bf16"):  # bf16: false beside fp16: true does not request float32
            requested.pop("trainer.bf16", None)
    if launched != "no":
        requested["accelerate's mixed_precision"] = {"bf16": "bfloat16", "fp16": "float16"}.get(launched, launched)
    named = {place: word for place, word in requested.items() if word != "auto"}
    if len(set(named.values())) > 1:
        (first, one), (second, other) = list(named.items())[:2]
        raise SettingsError(f"{first} says {one}, but {second} says {other}; take one of them out")
    return next(iter(named.values()), "auto")


def check_launch(environment: Mapping[str, str], *, has_gpu: bool) -> None:
    """Raises `SettingsError` for sharding on a CPU, where accelerate silently turns it off."""
    for word in _list_sharding(environment):
        if not has_gpu:
            raise SettingsError(
                f"accelerate's file asks for {word}, which needs GPUs, and there is none; launch on GPUs, "
                "or with recipes/accelerate/cpu.yaml or torchrun"
            )


def check_processes(environment: Mapping[str, str], kind: str, processes: int) -> None:
    """Raises `SettingsError` if the kind of sharding or the number of processes is not what was launched.

    Args:
        environment: As the launcher set it.
        kind: accelerate's distributed type before there is an Accelerator, such as "MULTI_CPU".
        processes: Size of the process group.
    """
    for word in _list_sharding(environment):
        # Only the trainer's Accelerator turns MULTI_GPU into FSDP, and only for this very word.
        becomes_fsdp = word == "FSDP" and kind == "MULTI_GPU" and is_fsdp(environment)
        if kind != word and not becomes_fsdp:
            raise SettingsError(f"accelerate's file asks for {word}, but {kind} runs; launch with accelerate launch")
    ranks = int(environment.get("WORLD_SIZE", "1"))
    if processes != ranks:
        raise SettingsError(
            f"{ranks} processes were launched, but {processes} see each other; "
            "launch with torchrun or accelerate launch"
        )


def is_fsdp(environment: Mapping[str, str]) -> bool:
    """Whether the trainer will run under accelerate's FSDP."""
    return environment.get(SHARDING["FSDP"], "false").lower() == "true"


def check_environment(environment: Mapping[str, str], ranks: int) -> None:
    """Raises `SettingsError` for programs in a dialogue under sharding, where all ranks have to generate together."""
    sharding = _list_sharding(environment)
    if sharding and ranks > 1:
        raise SettingsError(
            f"environment is set, but {sharding[0]} runs on {ranks} ranks, which would generate a different number of "
            "times and wait for each other; launch with recipes/accelerate/ddp.yaml, or take environment out"
        )


def _list_sharding(environment: Mapping[str, str]) -> list[str]:
    return [word for word, name in SHARDING.items() if environment.get(name, "false").lower() in ("1", "true")]
