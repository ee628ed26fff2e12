"""Callbacks of TRL's trainers: one line per log entry, and checks that stop a broken run."""

from collections.abc import Mapping

from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from ..errors import RunFailed
from .training_log import check_mean_rewards, format_entry


class ReportLines(ProgressCallback):  # type: ignore[misc, unused-ignore]  # transformers is not typed
    """The trainer's progress bar; log entries are printed above it as fixed-width lines, not as dictionaries."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float | str] | None = None,
        **_: object,
    ) -> None:
        """Prints the entry."""
        line = format_entry(state.global_step, state.max_steps, logs or {})
        if line and state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(line)


class GradientCheck(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Checks, before the first step, that the ranks will average their gradients.

    accelerate marks a model that is evaluated before `train()` as prepared, and does not wrap it for training: each
    rank then silently trains a model of its own. No stage evaluates first; this check enforces it.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Raises `RunFailed` if several ranks run and the model is not wrapped."""
        kind = str(args.distributed_state.distributed_type.value)
        model = self.trainer.model_wrapped
        if kind.startswith("MULTI") and not isinstance(model, DistributedDataParallel):
            raise RunFailed(
                f"{args.world_size} processes run, but the model is a bare {type(model).__name__} and their gradients "
                "would not be averaged; this is a bug in the recipe"
            )


class RewardCheck(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Stops a run whose mean rewards are no longer finite."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float | str] | None = None,
        **_: object,
    ) -> None:
        """Checks every log entry."""
        check_mean_rewards(logs or {}, state.global_step)
