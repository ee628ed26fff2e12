"""What the stages of alignment share: TRL's configuration checked before it is used, models, adapters, data, saving."""

import dataclasses
import json
import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from codeshell_hf.settings import Section
from codeshell_hf.stages.numerics import PrecisionSettings, read_config, settle_precision
from codeshell_hf.stages.stage import StageSettings, Work, is_first_rank

if TYPE_CHECKING:
    pass

OWN_KEYS = ("output_dir", "seed", "data_seed", "use_cpu")
SHARDING = {"FSDP": "ACCELERATE_USE_FSDP", "DEEPSPEED": "ACCELERATE_USE_DEEPSPEED"}


class AdapterSettings(Section):
    """A low-rank adapter (LoRA) in place of all weights."""

    r: int = Field(default=16, gt=0, description="rank")
    alpha: int = Field(default=32, gt=0, description="scale, over the rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before the adapter")
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", description="names such as c_attn, or all-linear"
    )
    quantization: Literal["4bit"] | None = Field(
        default=None, description="4bit loads the frozen weights as NF4 (QLoRA), which needs a GPU and bitsandbytes"
    )
    merge: bool = Field(default=True, description="also write the model with the adapter merged into it")


class AlignmentSettings(StageSettings, PrecisionSettings):
    """What the settings of all stages of alignment have."""

    model: Path = Field(description="folder of the model to start from, with its tokenizer")
    adapter: AdapterSettings | None = Field(default=None, description="null trains all weights")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        default="auto", description="auto takes FlashAttention 2 where it is installed and a GPU is at hand, else SDPA"
    )
    trainer: dict[str, Any] = Field(default_factory=dict, description="TRL's configuration, by its own names")
    seed: int = Field(default=0, ge=0, description="decides splits, order and what is drawn")


class PairSettings(AlignmentSettings):
    """What the settings of the stages that learn from pairs have."""

    pairs: tuple[Path, ...] = Field(min_length=1, description="JSON Lines with prompt, chosen and rejected")
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of prompts to measure on")

    def list_pairs(self) -> dict[str, Path]:
        """Lists the files of pairs.

        Returns:
            Their paths, by a name for the manifest.
        """
        return {f"pairs {path.parent.name}/{path.name}": path for path in self.pairs}


def make_trainer_config(
    config: type[Any],
    settings: AlignmentSettings,
    work: Work,
    folder: Path,
    *,
    owned: Sequence[str] = (),
    **given: Any,
) -> Any:
    """Makes TRL's configuration, after a check of every key against the installed version.

    Args:
        config: Such as `SFTConfig`.
        settings: With the section `trainer`.
        work: Filled with the precision.
        folder: Where the trainer saves its checkpoints.
        owned: Further keys that the recipe decides.
        given: Their values, and those of others that follow from the settings.

    Returns:
        The configuration.

    Raises:
        SettingsError: If a key is unknown or belongs to the recipe, a value is wrong, or accelerate does not run what
            its file asks for.
    """
    import torch

    from codeshell_hf.errors import SettingsError
    from codeshell_hf.settings import unknown_key

    check_launch()
    known = {field.name for field in dataclasses.fields(config)} - {*OWN_KEYS, *owned}
    for key in settings.trainer:
        if key in (*OWN_KEYS, *owned):
            raise SettingsError(f"trainer.{key} is decided by the recipe; take it out of the section trainer")
        if key not in known:
            raise SettingsError(unknown_key(key, known, "the section trainer"))
    fixed = {"output_dir": str(folder), "seed": settings.seed, "use_cpu": not torch.cuda.is_available(), **given}
    values = {**settings.trainer, "bf16": choose_bf16(settings, work, folder)}
    try:
        made = config(**values, **fixed)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"trainer: {' '.join(str(error).split())}") from error
    check_processes(made)
    return made


def choose_bf16(settings: AlignmentSettings, work: Work, folder: Path) -> bool:
    """Settles the precision that the trainer is given.

    Args:
        settings: With `precision`, or the trainer's own keys in its place.
        work: Filled.
        folder: Of the trainer's checkpoints.

    Returns:
        The trainer's `bf16`.

    Raises:
        SettingsError: If two of them contradict each other.
    """
    import torch
    from accelerate import PartialState

    from codeshell_hf.errors import SettingsError
    from codeshell_hf.processors import set_threads

    asked: dict[str, str] = {"precision": settings.precision}
    if "bf16" in settings.trainer:
        asked["trainer.bf16"] = "bfloat16" if settings.trainer["bf16"] else "float32"
    if settings.trainer.get("fp16"):
        asked["trainer.fp16"] = "float16"
        if not settings.trainer.get("bf16"):
            asked.pop("trainer.bf16", None)
    if (launched := os.environ.get("ACCELERATE_MIXED_PRECISION", "no")) != "no":
        asked["accelerate's mixed_precision"] = {"bf16": "bfloat16", "fp16": "float16"}.get(launched, launched)
    said = {name: value for name, value in asked.items() if value != "auto"}
    if len(set(said.values())) > 1:
        (first, one), (second, other) = list(said.items())[:2]
        raise SettingsError(f"{first} says {one}, but {second} says {other}; take one of them out")
    word: Any = next(iter(said.values()), "auto")
    if word not in ("auto", "float32", "bfloat16"):  # the trainer's own
        device = "cuda" if torch.cuda.is_available() else "cpu"
        work.precision = {"asked": word, "arithmetic": word, "device": device, "threads": set_threads()}
        return False
    PartialState(cpu=not torch.cuda.is_available())  # joins the ranks, for the first to tell the others
    return settle_precision(word, lambda: read_config(settings.model), work, trains=True, kept=folder).is_bf16


def check_launch() -> None:
    """Makes sure that sharding is asked for only where it can be had: on a CPU accelerate turns it off without a word.

    Raises:
        SettingsError: If it is asked for and no GPU is at hand.
    """
    import torch

    from codeshell_hf.errors import SettingsError

    for word, variable in SHARDING.items():
        is_asked = os.environ.get(variable, "false").lower() in ("1", "true")
        if is_asked and not torch.cuda.is_available():
            raise SettingsError(
                f"accelerate's file asks for {word}, which needs GPUs, and there is none; launch where there are, "
                "or with recipes/accelerate/cpu.yaml or torchrun"
            )


def check_processes(config: Any) -> None:
    """Makes sure that what was asked for is what runs.

    Args:
        config: A trainer's configuration.

    Raises:
        SettingsError: If another kind of sharding runs, or processes do not see each other.
    """
    from codeshell_hf.errors import SettingsError

    runs = str(config.distributed_state.distributed_type.value)
    for word, variable in SHARDING.items():
        if os.environ.get(variable, "false").lower() in ("1", "true") and runs != word:
            raise SettingsError(f"accelerate's file asks for {word}, but {runs} runs; launch with accelerate launch")
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if config.distributed_state.num_processes != ranks:
        raise SettingsError(
            f"{ranks} processes were launched, but {config.distributed_state.num_processes} see each other; "
            "launch with torchrun or accelerate launch"
        )


def check_whole_model(config: Any, section: str) -> None:
    """Makes sure that this process holds the whole model, which drawing answers outside the trainer needs.

    Args:
        config: A trainer's configuration.
        section: What asks for it.

    Raises:
        SettingsError: If the model is sharded.
    """
    from codeshell_hf.errors import SettingsError

    runs = str(config.distributed_state.distributed_type.value)
    if runs in ("FSDP", "DEEPSPEED"):
        raise SettingsError(
            f"{section} draws answers from a whole model, but {runs} shards it; set {section}: null and give the "
            "trainer held-out data and an eval_strategy"
        )


def load_policy(settings: AlignmentSettings, config: Any) -> Any:
    """Loads the model that is trained, its weights in float32 unless they are frozen in four bits.

    Args:
        settings: Which model, and whether it is quantised.
        config: The trainer's, with its precision.

    Returns:
        The model.

    Raises:
        SettingsError: If four bits are asked for where they cannot be had.
    """
    import importlib.util

    import torch

    from codeshell_hf.errors import SettingsError
    from codeshell_hf.train.weights import load_model

    options: dict[str, Any] = {"attn_implementation": choose_attention(settings)}
    if settings.adapter is None or settings.adapter.quantization is None:
        return load_model(str(settings.model), dtype=torch.float32, **options)
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        raise SettingsError(
            "adapter.quantization is 4bit, which needs a GPU and bitsandbytes; run where both are, "
            "or set adapter.quantization: null"
        )
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else torch.float32
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return load_model(str(settings.model), dtype=dtype, quantization_config=quantization, **options)


def choose_attention(settings: AlignmentSettings) -> str:
    """Chooses how attention is computed.

    Args:
        settings: With `attention`.

    Returns:
        transformers' name for it.
    """
    import importlib.util

    import torch

    if settings.attention != "auto":
        return settings.attention
    has_flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if has_flash else "sdpa"


def make_adapter(settings: AlignmentSettings, *, task: str = "CAUSAL_LM") -> Any:
    """Makes PEFT's configuration.

    Args:
        settings: With or without an adapter.
        task: PEFT's name of what the model does.

    Returns:
        A `LoraConfig`, or `None` where all weights are trained.
    """
    if settings.adapter is None:
        return None
    from peft import LoraConfig

    modules = settings.adapter.target_modules
    return LoraConfig(
        r=settings.adapter.r,
        lora_alpha=settings.adapter.alpha,
        lora_dropout=settings.adapter.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type=task,
    )


def train(trainer: Any, checkpoints: Path) -> None:
    """Trains, going on from the newest whole checkpoint.

    Args:
        trainer: Any of TRL's.
        checkpoints: Its folder.

    Raises:
        DataError: If there are too few examples for a single step.
        RunFailed: If the loss became something that is not a number.
    """
    import math

    from codeshell_hf.errors import DataError, RunFailed

    with trainer.accelerator.main_process_first():
        resumed = find_whole_checkpoint(checkpoints)
    trainer.add_callback(make_check(trainer))
    show_lines(trainer)
    # TRL 1.16 reads it at every step; transformers 6 has another name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    trainer.train(resume_from_checkpoint=resumed)
    if trainer.state.global_step == 0:
        raise DataError(
            f"{len(trainer.train_dataset)} examples do not fill one batch, so no step was taken; add examples, or "
            "lower trainer.per_device_train_batch_size"
        )
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if not all(math.isfinite(float(loss)) for loss in losses):
        raise RunFailed("the loss became something that is not a number; lower trainer.learning_rate and run again")


# What a line shows of what a trainer logs, under which name, and how.
SHOWN = {
    "loss": ("loss", "{:6.3f}"),
    "eval_loss": ("held-out loss", "{:6.3f}"),
    "reward": ("reward", "{:6.3f}"),
    "kl": ("kl", "{:.4f}"),
    "completions/mean_length": ("tokens", "{:5.1f}"),
    "rewards/accuracies": ("prefers", "{:4.0%}"),
    "learning_rate": ("lr", "{:.1e}"),
    "grad_norm": ("norm", "{:5.2f}"),
}


def show_lines(trainer: Any) -> None:
    """Has a trainer write one line of fixed width a report above its bar, in place of dictionaries.

    Args:
        trainer: Any of TRL's.
    """
    from transformers.trainer_callback import ProgressCallback

    if trainer.args.disable_tqdm:
        return

    class Lines(ProgressCallback):
        """The trainer's own bar with our lines."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """Writes what was logged."""
            line = format_logs(state.global_step, state.max_steps, logs or {})
            if line and state.is_world_process_zero and self.training_bar is not None:
                self.training_bar.write(line)

    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Lines())


def format_logs(step: int, steps: int, logs: Mapping[str, Any]) -> str:
    """Writes what a trainer logged as a line.

    Args:
        step: Of the optimizer.
        steps: Of the whole run.
        logs: What it logged; numbers, some of them as text.

    Returns:
        The line, empty where it would say nothing.
    """
    parts = [f"{name} {form.format(float(logs[key]))}" for key, (name, form) in SHOWN.items() if key in logs]
    return " | ".join([f"step {step:>6}/{steps}", *parts]) if parts else ""


def make_check(trainer: Any) -> Any:
    """Makes a callback that looks, before the first step, whether the ranks will share their gradients.

    A model that was evaluated before `train()` is marked as prepared by accelerate and is not wrapped again: every rank
    then trains for itself, without a word. So nothing here evaluates first, and this check holds it.

    Args:
        trainer: Any of TRL's.

    Returns:
        For the trainer.
    """
    from torch.nn.parallel import DistributedDataParallel
    from transformers import TrainerCallback

    from codeshell_hf.errors import RunFailed

    class Check(TrainerCallback):
        """Runs once."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Looks at the wrapped model.

            Raises:
                RunFailed: If gradients stay where they are.
            """
            kind = str(args.distributed_state.distributed_type.value)
            if kind.startswith("MULTI") and not isinstance(trainer.model_wrapped, DistributedDataParallel):
                raise RunFailed(
                    f"{args.world_size} processes run, but the model is a bare {type(trainer.model_wrapped).__name__} "
                    "and their gradients would not be shared; this is a fault of the recipe"
                )

    return Check()


def get_first(history: list[dict[str, Any]], key: str) -> float:
    """Finds what was measured before the first step.

    Args:
        history: The trainer's log.
        key: What.

    Returns:
        Its first value.
    """
    return float(next(entry[key] for entry in history if key in entry))


def find_whole_checkpoint(folder: Path) -> str | None:
    """Finds the newest checkpoint that a kill did not cut short, and removes those that it did.

    Args:
        folder: Holds the trainer's `checkpoint-*`; it may be missing.

    Returns:
        Its path, or `None` where there is none.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))  # the trainer writes it last
        except (OSError, json.JSONDecodeError):
            shutil.rmtree(path, ignore_errors=True)
        else:
            return str(path)
    return None


def save_trained(trainer: Any, settings: AlignmentSettings, work: Work, checkpoints: Path, *, head: Any = None) -> None:
    """Saves the model with its tokenizer, and the adapter if there is one, and removes the trainer's checkpoints.

    Args:
        trainer: After training; under sharding every rank takes part.
        settings: Where the tokenizer is, and whether an adapter is merged.
        work: Where to write.
        checkpoints: The trainer's folder.
        head: The class of the model; by default the causal language model.
    """
    from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
    from codeshell_hf.manifest import share_weights

    folder = work.folder / "model"
    # The trainer turned the cache off for itself. Who loads what is saved decodes with it.
    trainer.accelerator.unwrap_model(trainer.model).config.use_cache = CodeShellConfig.from_pretrained(
        settings.model
    ).use_cache
    trainer.save_model(str(folder if settings.adapter is None else work.folder / "adapter"))
    trainer.accelerator.wait_for_everyone()
    if is_first_rank():
        if settings.adapter is not None and settings.adapter.merge:
            merge_adapter(settings.model, work.folder / "adapter", folder, head or CodeShellForCausalLM)
        for target in (folder, work.folder / "adapter"):
            if target.exists():
                (target / "training_args.bin").unlink(missing_ok=True)
                share_weights(target)
                CodeShellTokenizer.from_pretrained(settings.model).save_pretrained(target)
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def merge_adapter(model: Path, adapter: Path, output: Path, head: Any) -> None:
    """Merges an adapter into the weights that it was trained on, in full precision.

    Args:
        model: Folder of the weights.
        adapter: Folder of the adapter.
        output: Folder to write.
        head: The class of the model.
    """
    import torch
    from peft import PeftModel

    base = head.from_pretrained(
        model, dtype=torch.float32, **({} if head.__name__.endswith("LM") else {"num_labels": 1})
    )
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(output)


def write_history(trainer: Any, work: Work) -> list[dict[str, Any]]:
    """Writes what the trainer logged.

    Args:
        trainer: After training.
        work: Where to write `log.json`.

    Returns:
        The entries.
    """
    history = list(trainer.state.log_history)
    if is_first_rank():
        (work.folder / "log.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    return history


def quiet_logs() -> None:
    """Takes out of the log what these recipes have seen to."""
    needless = (
        "end-of-turn",  # conversations end with the end-of-text token, inside the loss
        "padding-free",  # this model keeps packed rows apart under every attention, which a test holds
        "Flash Attention",
        "flash_attention",
    )
    for name in ("sft", "reward", "dpo", "rloo", "grpo"):
        logger = logging.getLogger(f"trl.trainer.{name}_trainer")
        logger.addFilter(lambda record: not any(word in record.getMessage() for word in needless))
