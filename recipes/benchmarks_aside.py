"""Benchmarks beside a training run: each exported model goes through `evaluate` in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeshell_hf.train.progress import Log
    from recipes.launcher import Ranks
    from recipes.pretraining import EvaluationSettings
    from recipes.record import Trackers

ROOT = Path(__file__).parents[1]

# What a launcher says to its ranks is not meant for a process that is none.
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


class BenchmarksAside:
    """Evaluates one export after another while training goes on, and puts the figures into the run's log.

    What a stop has left undone is taken up when the run goes on.

    Args:
        settings: Of the run; their `benchmarks` are settings of `evaluate`, whose models are replaced by the export.
        folder: The run's, with `exports`.
        log: Where figures go.
        ranks: The first of them evaluates.

    Raises:
        SettingsError: If nothing is exported.
    """

    def __init__(self, settings: "EvaluationSettings", folder: Path, log: "Log", ranks: "Ranks") -> None:
        from codeshell_hf.errors import SettingsError

        if settings.benchmarks is not None and not (settings.exports and settings.every_steps):
            raise SettingsError(
                f"evaluation.benchmarks is {settings.benchmarks}, but nothing is exported for them; set "
                "evaluation.exports: true and evaluation.every_steps"
            )
        self._settings = settings.benchmarks if ranks.rank == 0 else None
        self._exports = folder / "exports"
        self._results = folder / "benchmarks"
        self._log = log
        self._ranks = ranks
        self._running: tuple[Path, subprocess.Popen[bytes], IO[bytes]] | None = None
        self._failed: set[str] = set()

    def collect(self, trackers: "Trackers") -> None:
        """Takes up what has ended and starts what is next; it waits for nothing.

        Args:
            trackers: Are told, too.
        """
        if self._settings is None:
            return
        if self._running is not None and self._running[1].poll() is not None:
            self._take_up(trackers)
        if self._running is None and (export := self._find_next()) is not None:
            self._start(export)

    def finish(self, trackers: "Trackers") -> None:
        """Evaluates all that is left.

        Args:
            trackers: Are told, too.
        """
        self.collect(trackers)
        while self._running is not None:
            self._running[1].wait()
            self.collect(trackers)

    def close(self) -> None:
        """Ends what runs; it begins again when the run goes on."""
        if self._running is not None:
            _, process, output = self._running
            process.terminate()
            process.wait()
            output.close()
            self._running = None

    def _find_next(self) -> Path | None:
        exports = sorted(self._exports.iterdir()) if self._exports.is_dir() else []
        for export in exports:
            is_done = (self._results / export.name / "manifest.json").exists()
            if not is_done and export.name not in self._failed and (export / "config.json").exists():
                return export
        return None

    def _start(self, export: Path) -> None:
        self._results.mkdir(exist_ok=True)
        output = (self._results / f"{export.name}.txt").open("wb")
        command = [
            *(sys.executable, "-m", "recipes.evaluate", str(self._settings)),
            f"models={json.dumps({'export': str(export.resolve())})}",
            f"output={(self._results / export.name).resolve()}",
            f"kept={(self._results / 'kept').resolve()}",
        ]
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment)  # noqa: S603
        self._running = (export, process, output)

    def _take_up(self, trackers: "Trackers") -> None:
        if self._running is None:
            return
        export, process, output = self._running
        output.close()
        self._running = None
        step = int(export.name.rpartition("-")[2])
        if process.returncode:
            self._failed.add(export.name)
            said = (self._results / f"{export.name}.txt").read_text(encoding="utf-8", errors="replace")
            last = said.strip().rpartition("\n")[2] or f"exit {process.returncode}"
            self._ranks.print(f"step {step:>6} | benchmarks failed, training goes on: {last}")
            return
        results = json.loads((self._results / export.name / "results.json").read_text(encoding="utf-8"))
        figures: dict[str, Any] = {
            f"{task}: {name}": measure["value"]
            for task, values in results["models"]["export"]["tasks"].items()
            for name, measure in values["measures"].items()
        }
        self._log.add({"step": step, "benchmarks": figures})
        trackers.tell({f"benchmarks/{name}": value for name, value in figures.items()}, step)
        shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in list(figures.items())[:4])
        self._ranks.print(f"step {step:>6} | {shown}")
