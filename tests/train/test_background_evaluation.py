"""Benchmarks in the background, with a stand-in for `evaluate`, and what trackers get of them."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from codeshell_hf.errors import SettingsError
from codeshell_hf.train.background_evaluation import BackgroundEvaluation
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.run_log import Log
from codeshell_hf.train.settings import EvaluationSettings
from codeshell_hf.train.trackers import Trackers

# Writes a figure as `evaluate` does, and which of a launcher's variables reached it; fails for the second export.
STAND_IN = """
import json, os, sys
from pathlib import Path
given = dict(one.split("=", 1) for one in sys.argv[2:])
if "00000002" in given["models"]:
    sys.exit("no such model")
output = Path(given["output"])
output.mkdir()
measures = {"exact match": {"value": 0.25}, "ranks": {"value": float("RANK" in os.environ)}}
(output / "results.json").write_text(json.dumps({"models": {"export": {"tasks": {"lines": {"measures": measures}}}}}))
(output / "manifest.json").write_text("{}")
"""


class Recorder:
    def __init__(self) -> None:
        self.settings: dict[str, int | float | str] = {}
        self.logged: list[tuple[Mapping[str, float], int | None]] = []
        self.is_finished = False

    def store_init_configuration(self, values: dict[str, int | float | str]) -> None:
        self.settings = values

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.is_finished = True


def make_trackers(folder: Path, recorder: Recorder, started: list[dict[str, str]]) -> Trackers:
    def start(name: str, project: str, options: dict[str, str]) -> Recorder:
        started.append({"kind": name, "project": project, **options})
        return recorder

    return Trackers(["wandb"], start, folder, {"output": "runs/nano/pretrain", "batch": {"tokens": 8}, "x": None})


def test_each_export_is_evaluated_alone_and_a_failure_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    for step in (1, 2, 3):
        (tmp_path / "exports" / f"step-{step:08d}").mkdir(parents=True)
        (tmp_path / "exports" / f"step-{step:08d}" / "config.json").write_text("{}")
    log, recorder = Log(tmp_path / "log.jsonl", 0, is_writer=True), Recorder()
    trackers = make_trackers(tmp_path, recorder, [])
    ranks = Ranks(torch.device("cpu"), 0, 1)
    command = (sys.executable, "-c", STAND_IN)

    BackgroundEvaluation(command, tmp_path, Path("bench.yaml"), tmp_path, log, ranks).finish(trackers)

    figures = {"lines: exact match": 0.25, "lines: ranks": 0.0}
    assert log.entries == [{"step": 1, "benchmarks": figures}, {"step": 3, "benchmarks": figures}]
    assert recorder.logged[0] == ({f"benchmarks/{name}": value for name, value in figures.items()}, 1)
    printed = capsys.readouterr().out
    assert "step      1 | lines: exact match 25.0 %" in printed
    assert "step      2 | benchmarks failed, training continues: no such model" in printed


def test_old_exports_are_deleted_once_they_are_evaluated(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        (tmp_path / "exports" / f"step-{step:08d}").mkdir(parents=True)
        (tmp_path / "exports" / f"step-{step:08d}" / "config.json").write_text("{}")
    log, trackers = Log(tmp_path / "log.jsonl", 0, is_writer=True), make_trackers(tmp_path, Recorder(), [])
    ranks, command = Ranks(torch.device("cpu"), 0, 1), (sys.executable, "-c", STAND_IN)

    def list_exports() -> list[int]:
        return sorted(int(path.name[-8:]) for path in (tmp_path / "exports").iterdir())

    benchmarks = BackgroundEvaluation(command, tmp_path, Path("bench.yaml"), tmp_path, log, ranks, keep=1)
    benchmarks.poll(trackers)
    assert list_exports() == [1, 2, 3, 4]  # all are still to be evaluated

    benchmarks.finish(trackers)
    assert list_exports() == [4]
    assert [entry["step"] for entry in log.entries] == [1, 3, 4]  # the second fails


def test_exports_without_benchmarks_are_kept_in_number(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        (tmp_path / "exports" / f"step-{step:08d}").mkdir(parents=True)
        (tmp_path / "exports" / f"step-{step:08d}" / "config.json").write_text("{}")
    log, ranks = Log(tmp_path / "log.jsonl", 0, is_writer=True), Ranks(torch.device("cpu"), 0, 1)

    BackgroundEvaluation((), tmp_path, None, tmp_path, log, ranks, keep=2).poll(make_trackers(tmp_path, Recorder(), []))

    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == ["step-00000003", "step-00000004"]


def test_other_ranks_and_runs_without_benchmarks_evaluate_nothing(tmp_path: Path) -> None:
    (tmp_path / "exports" / "step-00000001").mkdir(parents=True)
    (tmp_path / "exports" / "step-00000001" / "config.json").write_text("{}")
    log, trackers = Log(tmp_path / "log.jsonl", 0, is_writer=True), make_trackers(tmp_path, Recorder(), [])
    command = (sys.executable, "-c", "raise SystemExit(1)")

    for rank, settings in ((1, Path("bench.yaml")), (0, None)):
        ranks = Ranks(torch.device("cpu"), rank, 2)
        BackgroundEvaluation(command, tmp_path, settings, tmp_path, log, ranks).finish(trackers)

    assert log.entries == []


def test_benchmarks_without_exports_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing is exported for them; set evaluation\.exports: true"):
        EvaluationSettings(benchmarks=Path("bench.yaml"), every_steps=4)


def test_a_resumed_run_continues_in_its_trackers_under_one_name(tmp_path: Path) -> None:
    started: list[dict[str, str]] = []
    recorder = Recorder()

    for _ in range(2):
        trackers = make_trackers(tmp_path, recorder, started)
    trackers.log({"loss": 2.0}, 7)
    trackers.finish()

    assert started[0] == started[1]
    assert started[0]["id"].startswith("nano-")
    assert started[0]["project"] == "codeshell-pretrain"
    assert recorder.settings == {"output": "runs/nano/pretrain", "batch.tokens": 8, "x": "None"}
    assert (recorder.logged, recorder.is_finished) == ([({"loss": 2.0}, 7)], True)


def test_a_tracker_that_is_not_installed_is_one_line(tmp_path: Path) -> None:
    def start(name: str, project: str, options: dict[str, str]) -> Recorder:
        raise ImportError(name)

    with pytest.raises(SettingsError, match="trackers names trackio, which is not installed; pip install trackio"):
        Trackers(["trackio"], start, tmp_path, {"output": "runs/nano/pretrain"})
