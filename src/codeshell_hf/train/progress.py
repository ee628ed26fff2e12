"""Where a run is, and its record."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .throughput import TokenCost

SHOWN_STEPS = 20


@dataclass
class Progress:
    """Where a run is.

    Args:
        step: Steps done.
        tokens: Tokens consumed.
        returns: How often it went back to older weights.
    """

    step: int = 0
    tokens: int = 0
    returns: int = 0


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

    @property
    def row_tokens(self) -> int | None:
        """Length of the rows of the last step, `None` before the first."""
        return next((entry["row_tokens"] for entry in reversed(self.entries) if "row_tokens" in entry), None)

    def last(self, step_tokens: int) -> dict[str, float]:
        """The last step, as trackers are told.

        Args:
            step_tokens: Tokens of a step.

        Returns:
            Measures by name.
        """
        entries = self._recent()
        entry = entries[-1]
        return {
            **{name: entry[name] for name in ("loss", "gradient_norm", "learning_rate", "tokens")},
            "tokens_per_s": self._measure_speed(entries, step_tokens),
        }

    def _recent(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries[-2 * SHOWN_STEPS :] if "loss" in entry][-SHOWN_STEPS:]

    @staticmethod
    def _measure_speed(entries: list[dict[str, Any]], step_tokens: int) -> float:
        seconds = entries[-1]["elapsed_s"] - entries[0]["elapsed_s"]
        return (len(entries) - 1) * step_tokens / seconds if seconds > 0 else 0.0

    def line(self, steps: int, step_tokens: int, cost: TokenCost, peak_tflops: float | None, ranks: int) -> str:
        """The fixed-width line.

        Args:
            steps: Steps of the run.
            step_tokens: Tokens of a step.
            cost: Operations of a token.
            peak_tflops: A device's peak in 10**12 operations a second.
            ranks: Devices.

        Returns:
            One line; the model's share of the peak with causal attention counted once and, in brackets, as a square.
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


def _parse_lines(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the line that a kill cut short
            return
