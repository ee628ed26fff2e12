"""Evaluates the exports of a training run in the background, each in its own process."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ..errors import Interrupted
from .ranks import Ranks
from .run_log import Log
from .trackers import Trackers

# A launcher sets these for its ranks; the evaluation is not one of them.
LAUNCHER_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT",
    Interrupted.marker_variable,
)  # fmt: skip


class BackgroundEvaluation:
    """Evaluates one export after another while training continues, and adds the results to the run's log.

    An interrupted evaluation is repeated when the run resumes. Only the first rank evaluates.

    Args:
        command: Starts the evaluation; models and outputs are appended as overrides.
        root: Folder of the command's module; paths in `settings` are relative to the current folder.
        settings: Settings of `evaluate`, whose models are replaced by the export; `None` for no evaluation.
        folder: The run's folder, with `exports`.
        keep: As in `EvaluationSettings.keep_exports`.
    """

    def __init__(
        self,
        command: Sequence[str],
        root: Path,
        settings: Path | None,
        folder: Path,
        log: Log,
        ranks: Ranks,
        *,
        keep: int | None = None,
    ) -> None:
        self._command = command
        self._root = root
        self._settings = settings if ranks.is_first else None
        self._exports = folder / "exports"
        self._results = folder / "benchmarks"
        self._log = log
        self._ranks = ranks
        self._keep = keep if ranks.is_first else None
        self._running: tuple[Path, subprocess.Popen[bytes], IO[bytes]] | None = None
        self._failed: set[str] = set()

    def poll(self, trackers: Trackers) -> None:
        """Logs a finished evaluation, starts the next one, without waiting, and deletes old exports."""
        if self._running is not None and self._running[1].poll() is not None:
            self._log_results(trackers)
        waiting = [export for export in self._list_exports() if self._is_waiting(export)]
        if self._running is None and waiting:
            self._start(waiting[0])
        for export in self._list_exports()[: -self._keep] if self._keep else ():
            if export not in waiting:
                shutil.rmtree(export, ignore_errors=True)

    def finish(self, trackers: Trackers) -> None:
        """Evaluates the remaining exports, and waits for them."""
        self.poll(trackers)
        while self._running is not None:
            self._running[1].wait()
            self.poll(trackers)

    def stop(self) -> None:
        """Stops the running evaluation; it is repeated when the run resumes."""
        if self._running is not None:
            _, process, output = self._running
            process.terminate()
            process.wait()
            output.close()
            self._running = None

    def _list_exports(self) -> list[Path]:
        found = self._exports.iterdir() if self._exports.is_dir() else ()
        return sorted(path for path in found if (path / "config.json").exists())

    def _is_waiting(self, export: Path) -> bool:
        """Whether an export is still to be evaluated, or is being evaluated."""
        is_done = (self._results / export.name / "manifest.json").exists()
        return self._settings is not None and not is_done and export.name not in self._failed

    def _start(self, export: Path) -> None:
        self._results.mkdir(exist_ok=True)
        output = (self._results / f"{export.name}.txt").open("wb")
        command = [
            *self._command,
            str(self._settings),
            f"models={json.dumps({'export': str(export.resolve())})}",
            f"output={(self._results / export.name).resolve()}",
            f"kept={(self._results / 'kept').resolve()}",
        ]
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
        paths = (str(self._root), environment.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)  # noqa: S603 - our own
        self._running = (export, process, output)

    def _log_results(self, trackers: Trackers) -> None:
        if self._running is None:
            return
        export, process, output = self._running
        output.close()
        self._running = None
        step = int(export.name.rpartition("-")[2])
        if process.returncode:
            self._failed.add(export.name)
            printed = (self._results / f"{export.name}.txt").read_text(encoding="utf-8", errors="replace")
            last = printed.strip().rpartition("\n")[2] or f"exit {process.returncode}"
            self._ranks.print(f"step {step:>6} | benchmarks failed, training continues: {last}")
            return
        results = json.loads((self._results / export.name / "results.json").read_text(encoding="utf-8"))
        figures: dict[str, float] = {
            f"{values.get('shown_name', {}).get('title') or task}: {name}": measure["value"]
            for task, values in results["models"]["export"]["tasks"].items()
            for name, measure in values["measures"].items()
        }
        self._log.add({"step": step, "benchmarks": figures})
        trackers.log({f"benchmarks/{name}": value for name, value in figures.items()}, step)
        shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in list(figures.items())[:4])
        self._ranks.print(f"step {step:>6} | {shown}")
