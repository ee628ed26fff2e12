"""The log of TRL's trainers: printed lines, checks and lookups."""

import logging
import math
from collections.abc import Mapping, Sequence

from ..errors import RunFailed

Entry = Mapping[str, float]

# Columns of a line: the trainer's key, the printed name, the format.
COLUMNS = {
    "loss": ("loss", "{:6.3f}"),
    "eval_loss": ("held-out loss", "{:6.3f}"),
    "reward": ("reward", "{:6.3f}"),
    "kl": ("kl", "{:.4f}"),
    "completions/mean_length": ("tokens", "{:5.1f}"),
    "rewards/accuracies": ("prefers", "{:4.0%}"),
    "learning_rate": ("lr", "{:.1e}"),
    "grad_norm": ("norm", "{:5.2f}"),
}


def format_entry(step: int, steps: int, entry: Mapping[str, float | str]) -> str:
    """Formats a log entry as a fixed-width line; empty if it has none of the columns.

    >>> format_entry(3, 40, {"loss": "1.25", "learning_rate": 1e-3, "epoch": 1})
    'step      3/40 | loss  1.250 | lr 1.0e-03'
    """
    parts = [f"{name} {form.format(float(entry[key]))}" for key, (name, form) in COLUMNS.items() if key in entry]
    return " | ".join([f"step {step:>6}/{steps}", *parts]) if parts else ""


def first_value(history: Sequence[Entry], key: str) -> float:
    """The first value of a key, such as a held-out loss before the first step."""
    return float(next(entry[key] for entry in history if key in entry))


def last_entry(history: Sequence[Entry], key: str) -> Entry:
    """The last entry with a key; empty if none has it."""
    return next((entry for entry in reversed(history) if key in entry), {})


def check_losses(history: Sequence[Entry]) -> None:
    """Raises `RunFailed` if a loss is not finite."""
    if not all(math.isfinite(float(entry["loss"])) for entry in history if "loss" in entry):
        raise RunFailed("the loss is no longer finite; lower trainer.learning_rate and run again")


def check_mean_rewards(entry: Mapping[str, float | str], step: int) -> None:
    """Raises `RunFailed` if the mean reward of an entry, or that of the reward model, is not finite.

    Other rewards are guarded; theirs is not a number if none of them applied, such as tests without any.
    """
    for key, value in entry.items():
        is_mean = key in ("reward", "rewards/model/mean")
        if is_mean and not math.isfinite(float(value)):
            raise RunFailed(
                f"{key} became {value} at step {step}; check that reward, or lower trainer.learning_rate, and run again"
            )


def list_losses(config: object) -> dict[str, float]:
    """The names and weights of the losses in a configuration of TRL's DPO or KTO.

    A loss whose value depends on more than a pair's log-ratios is named as TRL would not, so that it is not computed.
    """
    names = getattr(config, "loss_type", ())
    names = [names] if isinstance(names, str) else list(names)
    weights = getattr(config, "loss_weights", None) or [1.0] * len(names)
    changed = (
        getattr(config, "ld_alpha", None) is not None
        or getattr(config, "use_weighting", False)
        or str(getattr(config, "f_divergence_type", "reverse_kl")) not in ("reverse_kl", "FDivergenceType.REVERSE_KL")
    )
    return {f"{name} (changed)" if changed else name: weight for name, weight in zip(names, weights, strict=True)}


def find_idleness(entry: Mapping[str, float | str], max_tokens: int) -> str | None:
    """Why the steps of an entry taught nothing, and what to do; `None` if they did.

    >>> find_idleness({"completions/clipped_ratio": 0.5, "reward_std": 0.1, "grad_norm": 0.2}, 24)
    """
    if float(entry.get("completions/clipped_ratio", 0)) >= 1:
        return (
            f"every answer was cut off at {max_tokens} tokens, before its turn ended; raise "
            "trainer.max_completion_length, or fine-tune the model with the sft stage, so that it ends its turns"
        )
    if float(entry.get("reward_std", 1)) == 0:
        return (
            f"every answer had the same reward, {float(entry.get('reward', 0)):g}; choose prompts that the model "
            "answers rightly at times, reward the share of tests passed (share: true), or raise trainer.num_generations"
        )
    if float(entry.get("grad_norm", 1)) == 0:
        return "the gradient was zero; raise trainer.num_generations or trainer.temperature, so that answers differ"
    return None


def describe_rewards(entry: Entry) -> str:
    """Describes the reward, KL, length and pass rate of an entry in words."""
    names = {
        "reward": "reward",
        "kl": "KL (nats per token)",
        "completions/mean_length": "tokens",
        "rewards/tests/mean": "pass rate",
    }
    parts = [f"{name} {float(entry[key]):.3f}" for key, name in names.items() if key in entry]
    return "in the last batches " + ", ".join(parts) if parts else "nothing was logged"


def quiet_logs() -> None:
    """Filters warnings of TRL about what these recipes have taken care of."""
    handled = (
        "end-of-turn",  # conversations end with the end-of-text token, inside the loss
        "padding-free",  # this model keeps packed rows apart under every attention, which a test holds
        "Flash Attention",
        "flash_attention",
    )
    for name in ("sft", "reward", "dpo", "rloo", "grpo"):
        logger = logging.getLogger(f"trl.trainer.{name}_trainer")
        logger.addFilter(lambda record: not any(word in record.getMessage() for word in handled))
