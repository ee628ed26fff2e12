"""Where a run is: its record, and going back to its last whole checkpoint."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError
from .checkpoint import load_latest_checkpoint, save_checkpoint

SHOWN_STEPS = 20


@dataclass
class Progress:
    """Where a run is.

    Args:
        step: Steps done.
        tokens: Tokens consumed.
    """

    step: int = 0
    tokens: int = 0


def restore(checkpoints: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Progress:
    """Goes back to the last whole checkpoint.

    Args:
        checkpoints: Folder of the run's checkpoints.
        model: Gets its weights.
        optimizers: Get their moments.

    Returns:
        Where the run was; the beginning where there is no checkpoint.

    Raises:
        CheckpointError: If the checkpoint is of another model.
    """
    state = load_latest_checkpoint(checkpoints)
    if state is None:
        return Progress()
    try:
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{checkpoints} is of another model; remove it to begin anew") from error
    torch.set_rng_state(state["chance"])
    return Progress(state["step"], state["tokens"])


def save(
    checkpoints: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    *,
    keep: int,
) -> None:
    """Saves all that a run consists of: weights, moments, chance and where it is. Its data are a function of that.

    Args:
        checkpoints: Folder of the run's checkpoints.
        model: Its weights.
        optimizers: Their moments.
        progress: Where the run is.
        keep: How many checkpoints stay.
    """
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "chance": torch.get_rng_state(),
        "step": progress.step,
        "tokens": progress.tokens,
    }
    save_checkpoint(checkpoints, progress.step, state, keep=keep)


class Log:
    """The run's own record, one JSON object a line; a resumed run cuts off what it does again.

    Args:
        path: The file.
        step: Where the run goes on; entries behind it are dropped.
        is_writer: Whether this process writes the file.
    """

    def __init__(self, path: Path, step: int, *, is_writer: bool) -> None:
        self.path = path
        self.is_writer = is_writer
        self.entries: list[dict[str, Any]] = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.entries = [entry for entry in _parse_lines(lines) if entry["step"] <= step]
        self.base_s = max((entry.get("elapsed_s", 0.0) for entry in self.entries), default=0.0)
        if self.is_writer:
            path.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries), encoding="utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        """Appends an entry.

        Args:
            entry: With `step`.
        """
        self.entries.append(entry)
        if self.is_writer:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def step(self, progress: Progress, **values: Any) -> None:
        """Appends a step.

        Args:
            progress: Where the run is.
            values: What was measured.
        """
        values["elapsed_s"] = round(values["elapsed_s"] + self.base_s, 3)
        self.add({"step": progress.step, "tokens": progress.tokens, **values})

    def line(self, steps: int, step_tokens: int, token_flops: float, peak_tflops: float | None, ranks: int) -> str:
        """The fixed-width line.

        Args:
            steps: Steps of the run.
            step_tokens: Tokens of a step.
            token_flops: Operations of a token, causal attention counted once.
            peak_tflops: A device's peak in 10**12 operations a second.
            ranks: Devices.

        Returns:
            One line.
        """
        entries = [entry for entry in self.entries if "loss" in entry][-SHOWN_STEPS:]
        last = entries[-1]
        seconds = last["elapsed_s"] - entries[0]["elapsed_s"]
        done = len(entries) - 1
        speed = done * step_tokens / seconds if seconds > 0 and done else 0.0
        left = (steps - last["step"]) * step_tokens / speed if speed else 0.0
        mfu = f" | mfu {speed * token_flops / (peak_tflops * 1e12 * ranks):.2f}" if peak_tflops else ""
        return (
            f"step {last['step']:>6}/{steps} | loss {last['loss']:6.3f} | {speed / 1e3:8.1f}k tok/s{mfu} "
            f"| lr {last['learning_rate']:.1e} | norm {last['gradient_norm']:5.2f} "
            f"| eta {int(left // 60)}m{int(left % 60):02d}s"
        )


def _parse_lines(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the line that a kill cut short
            return
