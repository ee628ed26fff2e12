"""Shared by the stages on TRL: settings, TRL's configuration, the policy, adapters, training, saving."""

import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import Field

from codeshell_hf.align.settings import PolicySettings
from codeshell_hf.settings import PrecisionSettings
from codeshell_hf.stages.precision_choice import read_config, resolve_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, is_first_rank
from codeshell_hf.text.settings import DataPlace, Reading

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import Trainer, TrainingArguments

    from codeshell_hf.precision import RequestedPrecision

OWN_KEYS = ("output_dir", "seed", "data_seed", "use_cpu")
CHECKPOINTS = "checkpoints"

Config = TypeVar("Config", bound="TrainingArguments")
Given = TypeVar("Given", bound="AlignmentSettings")


class AlignmentSettings(StageSettings, PrecisionSettings, PolicySettings):
    """Settings of all stages on TRL."""

    trainer: dict[str, object] = Field(default_factory=dict, description="TRL's configuration, by its own names")
    seed: int = Field(default=0, ge=0, description="of splits, order and sampling")


class PairSettings(AlignmentSettings, Reading):
    """Settings of the stages that train on pairs."""

    pairs: tuple[DataPlace, ...] = Field(
        min_length=1, description="files, folders, or hub:OWNER/NAME@REVISION, in any form of pairs that is known"
    )
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of prompts to measure on")


def make_stage(
    name: str,
    settings: type[Given],
    run: Callable[[Given, Work], None],
    describe: Callable[[Given], list[str]] = lambda settings: [],
) -> Stage[Given]:
    """A stage that resumes from the trainer's checkpoints."""
    return Stage(name, settings, run, describe=describe, checkpoint_globs=(f"{CHECKPOINTS}/checkpoint-*",))


def describe_pairs(settings: PairSettings) -> list[str]:
    """What the files hold, and one pair."""
    from codeshell_hf.align.preview import preview_pairs

    return preview_pairs(settings.pairs, settings.get_reading())


def make_trainer_config(
    config: type[Config], settings: AlignmentSettings, work: Work, *, owned: Sequence[str] = (), **fixed: object
) -> Config:
    """Makes TRL's configuration, and checks every key against the installed version.

    Args:
        config: Such as `SFTConfig`.
        settings: Include the section `trainer`.
        work: Its precision is filled; the trainer's checkpoints go into its folder.
        owned: Further keys that the recipe decides.
        fixed: Their values.

    Raises:
        SettingsError: If a key is unknown or belongs to the recipe, a value is wrong, or accelerate does not run what
            its file requests.
    """
    import torch

    from codeshell_hf.align.trainer_config import check_keys, check_launch, check_processes
    from codeshell_hf.errors import SettingsError

    check_launch(os.environ, has_gpu=torch.cuda.is_available())
    check_keys(settings.trainer, [field.name for field in dataclasses.fields(config)], (*OWN_KEYS, *owned))
    folder = work.folder / CHECKPOINTS
    bf16 = resolve_bf16(settings.trainer, work, model=settings.model, precision=settings.precision, folder=folder)
    options = {**settings.trainer, "bf16": bf16, "output_dir": str(folder), "seed": settings.seed}
    try:
        trainer_config: Config = config(**options, use_cpu=not torch.cuda.is_available(), **fixed)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"trainer: {' '.join(str(error).split())}") from error
    processes = trainer_config.distributed_state
    check_processes(os.environ, str(processes.distributed_type.value), processes.num_processes)
    return trainer_config


def read_options(stage: str, method: str, given: Mapping[str, object]) -> dict[str, object]:
    """All options of a stage's configuration, those that are not given at TRL's defaults."""
    import trl

    from codeshell_hf.align.trainer_config import check_keys

    name = {"sft": "SFT", "reward": "Reward"}.get(stage) or method.upper()
    known = {field.name: field.default for field in dataclasses.fields(getattr(trl, f"{name}Config"))}
    check_keys(given, known, OWN_KEYS)
    return {**known, **given}


def resolve_bf16(options: Mapping[str, object], work: Work, *, model: Path, precision: str, folder: Path) -> bool:
    """Resolves the precision from the setting, the trainer's keys and the launcher; whether the trainer uses bf16."""
    import torch
    from accelerate import PartialState

    from codeshell_hf.align.trainer_config import agree_on_precision
    from codeshell_hf.processors import set_threads

    word = agree_on_precision(precision, options, os.environ.get("ACCELERATE_MIXED_PRECISION", "no"))
    has_gpu = torch.cuda.is_available()
    if word not in ("auto", "float32", "bfloat16"):  # the trainer handles float16 itself
        work.precision = {"requested": word, "compute_dtype": word, "device": "cuda" if has_gpu else "cpu"}
        work.precision["threads"] = set_threads()
        return False
    PartialState(cpu=not has_gpu)  # joins the ranks, so that the first can broadcast what it chose
    requested = cast("RequestedPrecision", word)
    return resolve_precision(requested, lambda: read_config(model), work, trains=True, record_folder=folder).is_bf16


def make_adapter(policy: PolicySettings, *, task: str = "CAUSAL_LM") -> "LoraConfig | None":
    """Makes PEFT's configuration; `None` to train all weights."""
    adapter = policy.adapter
    if adapter is None:
        return None
    from peft import LoraConfig

    modules = adapter.target_modules
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type=task,
    )


def train(trainer: "Trainer") -> None:
    """Trains, and resumes from the newest complete checkpoint.

    Raises:
        DataError: If there are too few examples for one step.
        RunFailed: If a loss is not finite, or ranks would not average gradients.
    """
    from transformers.trainer_callback import ProgressCallback

    from codeshell_hf.align.callbacks import GradientCheck, ReportLines
    from codeshell_hf.align.checkpoints import find_complete_checkpoint
    from codeshell_hf.align.training_log import check_losses
    from codeshell_hf.errors import DataError

    with trainer.accelerator.main_process_first():
        resumed = find_complete_checkpoint(Path(trainer.args.output_dir))
    trainer.add_callback(GradientCheck(trainer))
    if not trainer.args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ReportLines())
    # TRL 1.16 reads it at every step; transformers 6 renames it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    trainer.train(resume_from_checkpoint=resumed)
    if trainer.state.global_step == 0:
        raise DataError(
            f"{len(trainer.train_dataset)} examples do not fill one batch, so no step was taken; add examples, or "
            "lower trainer.per_device_train_batch_size"
        )
    check_losses(trainer.state.log_history)


def count_epochs(trainer: "Trainer") -> float:
    """Passes over the training data, less than 1 if `max_steps` ended training before it was all seen."""
    return round(float(trainer.state.epoch or 0), 4)


def save_trained(trainer: "Trainer", policy: PolicySettings, folder: Path, *, task: str = "CAUSAL_LM") -> None:
    """Saves the model, its adapter if there is one, the tokenizer and the log, and removes the checkpoints.

    Args:
        trainer: After training; with sharding, all ranks have to call this.
        policy: The initial model, whose tokenizer is copied. An adapter is saved by itself, and merged if that is set.
        folder: For `model`, `adapter` and `log.json`.
        task: PEFT's task type.
    """
    from codeshell_hf import CodeShellConfig, CodeShellTokenizer
    from codeshell_hf.manifest import share_weights
    from recipes.merge import merge_adapter

    model, adapter = policy.model, policy.adapter
    # The trainer turned the cache off, but users of the saved model need it.
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained.config.use_cache = CodeShellConfig.from_pretrained(model).use_cache
    trainer.save_model(str(folder / ("model" if adapter is None else "adapter")))
    trainer.accelerator.wait_for_everyone()
    if is_first_rank():
        if adapter is not None and adapter.merge:
            merge_adapter(model, folder / "adapter", folder / "model", task=task)
        for target in (folder / "model", folder / "adapter"):
            if target.exists():
                (target / "training_args.bin").unlink(missing_ok=True)
                share_weights(target)
                CodeShellTokenizer.from_pretrained(model).save_pretrained(target)
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")
        shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
