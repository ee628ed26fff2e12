"""Callbacks of TRL's trainers: one line per log entry, and checks that stop a broken run."""

from collections.abc import Callable, Mapping

from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from ..errors import RunFailed
from .training_log import check_mean_rewards, find_idleness, format_entry

LogEntry = Mapping[str, float | str]


class LogCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]  # transformers is not typed
    """A callback that gets each log entry."""

    def on_entry(self, logs: LogEntry, state: TrainerState) -> None:
        """Called with each entry, after the step of `state`."""
        raise NotImplementedError

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: LogEntry | None = None,
        **_: object,
    ) -> None:
        """Forwards the entry."""
        self.on_entry(logs or {}, state)


class ReportLines(LogCallback, ProgressCallback):  # type: ignore[misc, unused-ignore]
    """The trainer's progress bar; log entries are printed above it as fixed-width lines, not as dictionaries."""

    def on_entry(self, logs: LogEntry, state: TrainerState) -> None:
        """Prints the entry."""
        line = format_entry(state.global_step, state.max_steps, logs)
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
        # The settings' own state says MULTI_GPU under FSDP too.
        kind = str(self.trainer.accelerator.distributed_type.value)
        model = self.trainer.model_wrapped
        if kind.startswith("MULTI") and not isinstance(model, DistributedDataParallel):
            raise RunFailed(
                f"{args.world_size} processes run, but the model is a bare {type(model).__name__} and their gradients "
                "would not be averaged; this is a bug in the recipe"
            )


class RunOnceAtStart(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Runs a function once the model is prepared for training; nothing may be evaluated before that."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Runs it."""
        self.work()


class RewardCheck(LogCallback):  # type: ignore[misc, unused-ignore]
    """Stops a run whose mean rewards are no longer finite."""

    def on_entry(self, logs: LogEntry, state: TrainerState) -> None:
        """Checks every log entry."""
        check_mean_rewards(logs, state.global_step)


class IdleCheck(LogCallback):  # type: ignore[misc, unused-ignore]
    """Stops reinforcement learning that learns nothing: no answer ends, or no reward or gradient differs from zero.

    Args:
        max_steps: Steps in a row without learning after which the run fails; a shorter run fails if it never learned.
        max_tokens: Limit of an answer, for the message.
    """

    def __init__(self, max_steps: int, max_tokens: int) -> None:
        self.max_steps = max_steps
        self.max_tokens = max_tokens
        self.last_useful = 0
        self.has_learned = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Counts from here; a resumed run has learned before."""
        self.last_useful = state.global_step
        self.has_learned = state.global_step > 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Asks for a log entry of the last step, so that every step is seen."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_entry(self, logs: LogEntry, state: TrainerState) -> None:
        """Checks every entry of training.

        Raises:
            RunFailed: If too many steps in a row, or all of a shorter run, taught nothing.
        """
        if "completions/clipped_ratio" not in logs:
            return
        reason = find_idleness(logs, self.max_tokens)
        if reason is None:
            self.last_useful = state.global_step
            self.has_learned = True
            return
        steps = state.global_step - self.last_useful
        if steps >= self.max_steps or (state.global_step >= state.max_steps and not self.has_learned):
            raise RunFailed(f"nothing was learned in {steps} steps: {reason}")


def make_checks(max_idle_steps: int | None, max_tokens: int) -> list[TrainerCallback]:
    """The checks of reinforcement learning; `None` lets a run go on that teaches nothing."""
    return [RewardCheck(), *([] if max_idle_steps is None else [IdleCheck(max_idle_steps, max_tokens)])]


def get_policy(trainer: Trainer) -> PreTrainedModel:
    """The model that is trained, which a sharding engine may hold in parts."""
    policy: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    return policy


def measure(trainer: Trainer, work: Callable[[PreTrainedModel], None]) -> None:
    """Does something with the policy, in the trainer's precision."""
    with trainer.compute_loss_context_manager():
        work(get_policy(trainer))


def measure_at_start(trainer: Trainer, work: Callable[[PreTrainedModel], None]) -> None:
    """Does something with the policy once it is prepared for training, before the first step."""
    trainer.add_callback(RunOnceAtStart(lambda: measure(trainer, work)))
