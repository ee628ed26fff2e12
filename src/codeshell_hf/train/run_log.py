"""A run's progress and its log."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict

from ..manifest import write_text
from .throughput import TokenCost

logger = logging.getLogger(__name__)

SHOWN_STEPS = 20


@dataclass
class Progress:
    """Steps taken or skipped, tokens consumed, and rollbacks to older weights."""

    step: int = 0
    tokens: int = 0
    rollbacks: int = 0


class Entry(TypedDict, total=False):
    """A line of the log: a step, or a measurement between two steps."""

    step: Required[int]
    tokens: int
    loss: float
    gradient_norm: float
    learning_rate: float
    row_tokens: int
    elapsed_s: float
    is_skipped: bool
    bits_per_byte: dict[str, float]
    loss_by_position: list[float]
    benchmarks: dict[str, float]


class Log:
    """The run's log in JSON Lines. A run that resumes after `step` drops later entries, whose steps it repeats."""

    def __init__(self, path: Path, step: int, *, is_writer: bool) -> None:
        self.path = path
        self.is_writer = is_writer
        self.entries: list[Entry] = []
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            self.entries = [entry for entry in _parse_lines(lines) if entry["step"] <= step]
        self.started_s = time.monotonic()
        self.base_s = max((entry.get("elapsed_s", 0.0) for entry in self.entries), default=0.0)
        if self.is_writer:
            self._write(lambda: write_text(path, "".join(json.dumps(entry) + "\n" for entry in self.entries)))

    def start_clock(self) -> None:
        """Starts the time measurement of steps."""
        self.started_s = time.monotonic()

    def add(self, entry: Entry) -> None:
        """Appends an entry."""
        self.entries.append(entry)
        if self.is_writer:
            self._write(lambda: self._append(json.dumps(entry) + "\n"))

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def _write(self, write: Callable[[], object]) -> None:
        """Writes; on a full disk the run continues, with what is missing in the log."""
        try:
            write()
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s); the run continues without these lines", self.path, error.strerror
            )

    def add_step(
        self, progress: Progress, loss: float, norm: float, rate: float, row_tokens: int, *, is_taken: bool
    ) -> None:
        """Appends a step that ends now."""
        entry: Entry = {
            "step": progress.step,
            "tokens": progress.tokens,
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": rate,
            "row_tokens": row_tokens,
            "elapsed_s": round(time.monotonic() - self.started_s + self.base_s, 3),
        }
        if not is_taken:
            entry["is_skipped"] = True
        self.add(entry)

    @property
    def row_tokens(self) -> int | None:
        """Row length of the last step; `None` before the first."""
        return next((entry["row_tokens"] for entry in reversed(self.entries) if "row_tokens" in entry), None)

    def last_measures(self, step_tokens: int) -> dict[str, float]:
        """The last step's measures by name, for trackers."""
        entries = self._recent()
        last = entries[-1]
        return {
            "loss": last["loss"],
            "gradient_norm": last["gradient_norm"],
            "learning_rate": last["learning_rate"],
            "tokens": last["tokens"],
            "tokens_per_s": self._measure_speed(entries, step_tokens),
        }

    def _recent(self) -> list[Entry]:
        return [entry for entry in self.entries[-2 * SHOWN_STEPS :] if "loss" in entry][-SHOWN_STEPS:]

    @staticmethod
    def _measure_speed(entries: list[Entry], step_tokens: int) -> float:
        seconds = entries[-1]["elapsed_s"] - entries[0]["elapsed_s"]
        return (len(entries) - 1) * step_tokens / seconds if seconds > 0 else 0.0

    def format_line(self, steps: int, step_tokens: int, cost: TokenCost, peak_tflops: float | None, ranks: int) -> str:
        """The last step as a fixed-width line, with MFU for causal attention and, in brackets, full attention.

        Args:
            steps: Steps of the run.
            step_tokens: Tokens of a step.
            cost: Operations of a token.
            peak_tflops: A device's peak in 10**12 operations per second.
            ranks: Number of devices.
        """
        entries = self._recent()
        last = entries[-1]
        speed = self._measure_speed(entries, step_tokens)
        left = (steps - last["step"]) * step_tokens / speed if speed else 0.0
        mfu = ""
        if peak_tflops:
            share = speed / (peak_tflops * 1e12 * ranks)
            mfu = f" | mfu {share * cost.causal:.2f} ({share * cost.square:.2f})"
        return (
            f"step {last['step']:>6}/{steps} | loss {last['loss']:6.3f} | {speed / 1e3:8.1f}k tok/s{mfu} "
            f"| lr {last['learning_rate']:.1e} | norm {last['gradient_norm']:5.2f} "
            f"| eta {int(left // 60)}m{int(left % 60):02d}s"
        )


def _parse_lines(lines: list[str]) -> Iterator[Entry]:
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # a line that a kill cut short
            return
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            yield entry  # type: ignore[misc]
