"""The nano system's stages from pretraining to preference optimization, each in a process."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.report import Report

# Stage -> the measures of its manifest that are reported.
STAGES = {
    "pretrain": ("bits_per_byte_before.all", "bits_per_byte_after.all"),
    "sft": ("held_out_loss_before", "held_out_loss_after"),
    "preferences": (),
    "reward": ("held_out_accuracy",),
    "rlhf": ("measured.tests.before", "measured.tests.after"),
    "dpo": ("measured.tests.before", "measured.tests.after"),
}
# The same work on a CPU takes minutes; a toy only shows that stages start and end, and answers nothing right.
TOY = {
    "pretrain": (
        "schedule.total_tokens=22_528",
        "model.changes={n_layer: 2}",
        "evaluation.max_bytes_per_language=3000",
    ),
    "sft": ("trainer.max_steps=2",),
}


def run_stages(report: Report) -> None:
    """Runs those stages of recipes/nano that were not carried, and reports their seconds and measures."""
    carried = report.carried / "nano" if report.carried else None
    if carried is None or not carried.is_dir():
        report.skip("all of it", "no packed shards were carried; see python -m benchmarks.gpu.wheels --help")
        return
    with TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copytree(carried, home / "runs" / "nano")
        (home / "recipes").symlink_to(ROOT / "recipes")
        for stage in TOY if report.is_toy else STAGES:
            if (home / "runs" / "nano" / stage).is_dir():
                continue
            settings = TOY.get(stage, ()) if report.is_toy else ()
            command = [sys.executable, "-m", f"recipes.{stage}", f"recipes/nano/{stage}.yaml", *settings]
            started = time.perf_counter()
            code = subprocess.run(command, cwd=home, check=False).returncode
            if code:
                report.fail(stage, f"ended with {code}")
                return
            manifest = json.loads((home / "runs" / "nano" / stage / "manifest.json").read_text(encoding="utf-8"))
            measures = {name: find(manifest["measures"], name) for name in STAGES[stage]}
            report.add(f"{stage}, seconds", time.perf_counter() - started, "s", in_the_stage=manifest["wall_s"])
            for name, value in measures.items():
                report.add(f"{stage}, {name}", value)


def find(values: Mapping[str, Any], path: str) -> float:
    """The number at a path with dots."""
    for name in path.split("."):
        values = values[name]
    return float(values)  # type: ignore[arg-type]
