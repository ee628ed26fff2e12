"""The results of sections: JSON lines, written as they come, and the table of them all."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu.sections import EXPECTED
from benchmarks.result import Result, describe_machine

COLUMNS = {
    "section: what": "80", "measured": "10", "unit": "10", "expected": "14",
    "tokens/s": "10,.0f", "peak GB": "9.1f", "plan GB": "9.1f",
}  # fmt: skip


class Report:
    """The lines of one section.

    Args:
        path: The file that they are appended to; a run that is killed keeps its lines.
        section: Its name.
        is_toy: Whether sizes are those of a test on a CPU.
        carried: The folder given as `--carried`, if any.
    """

    def __init__(self, path: Path, section: str, *, is_toy: bool = False, carried: Path | None = None) -> None:
        self.path = path
        self.section = section
        self.is_toy = is_toy
        self.carried = carried

    def add(self, what: str, value: float, unit: str = "", **more: Any) -> None:
        """Appends a figure.

        Args:
            what: Its name, unique in the section.
            value: The figure.
            unit: Its unit.
            more: Further values of the line; with `limit`, the figure must be below it.
        """
        expected = EXPECTED.get(self.section, {}).get(what)
        if (limit := more.get("limit")) is not None:
            more["is_right"] = bool(value < limit)
            expected = f"below {limit:g}"
        self.write({"what": what, "value": value, "unit": unit, "expected": expected, **more})

    def fail(self, what: str, error: object) -> None:
        """Records a failure, which makes the run fail.

        Args:
            what: What was to be measured.
            error: An exception, or a sentence.
        """
        text = repr(error) if isinstance(error, Exception) else str(error)
        self.write({"what": what, "failed": " ".join(text.split())[-300:]})

    def skip(self, what: str, reason: str) -> None:
        """Records that something cannot be measured here.

        Args:
            what: What was to be measured.
            reason: A sentence.
        """
        self.write({"what": what, "skipped": reason})

    def write(self, values: dict[str, Any]) -> None:
        """Appends a line.

        Args:
            values: Values that JSON can represent; those that are `None` are left out.
        """
        line = {"section": self.section, **{name: value for name, value in values.items() if value is not None}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def describe(self) -> None:
        """Appends the machine, its memory, its driver and the versions of packages."""
        import torch

        about: dict[str, Any] = {"machine": describe_machine("torch", "transformers", "accelerate")}
        if torch.cuda.is_available():
            about["memory_gb"] = round(torch.cuda.mem_get_info()[1] / 1e9, 1)
            if program := shutil.which("nvidia-smi"):
                asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
                told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
                about["driver"] = told[0] if told else None
        self.write(about)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines that sections wrote, without one that a kill truncated."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def tabulate(lines: Iterable[dict[str, Any]]) -> Result:
    """Makes the table of a run: a row per figure, and notes on what is wrong, failed or was skipped."""
    lines = list(lines)
    machine = next((line["machine"] for line in lines if "machine" in line), "nothing was run")
    facts = [
        f"{line['memory_gb']} GB of GPU memory, driver {line.get('driver', 'unknown')}"
        for line in lines
        if "memory_gb" in line
    ][:1]
    table = Result(machine, facts, COLUMNS)
    for line in lines:
        what, section = line.get("what"), line["section"]
        if "value" in line:
            extra = [line.get(name) for name in ("tokens_per_s", "peak_gb", "plan_gb")]
            table.rows.append(
                [f"{section}: {what}", show(line["value"]), line["unit"], line.get("expected", ""), *extra]
            )
            if line.get("is_right") is False:
                table.notes.append(f"{section}: {what} is {show(line['value'])}, which is wrong")
        elif "failed" in line:
            table.notes.append(f"{section}: {what} failed: {line['failed']}")
        elif "skipped" in line:
            table.notes.append(f"{section}: {what} not measured: {line['skipped']}")
    return table


def is_whole(lines: Iterable[dict[str, Any]]) -> bool:
    """Whether no line is wrong or failed; skipped ones do not count."""
    return not any("failed" in line or line.get("is_right") is False for line in lines)


def show(value: float) -> str:
    """Formats a figure with three digits, or as a whole number from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
