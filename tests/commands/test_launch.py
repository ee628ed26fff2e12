"""A stage runs here, or its ranks run under the launcher that its settings ask for."""

import argparse
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import Field

from codeshell_hf.commands import launch
from codeshell_hf.commands.launch import make_command, run_or_launch
from codeshell_hf.errors import SettingsError
from codeshell_hf.stages.stage import Stage, StageSettings, Work


class Settings(StageSettings):
    accelerate: Path | None = Field(default=None)


class Plain(StageSettings):
    pass


def do_nothing(settings: StageSettings, work: Work) -> None:
    work.report.append("done here")


PRETRAIN: Stage[StageSettings] = Stage("pretrain", Settings, do_nothing, saves_on_signal=True)
SFT: Stage[StageSettings] = Stage("sft", Plain, do_nothing)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RANK", raising=False)
    settings = tmp_path / "stage.yaml"
    settings.write_text(f"output: {tmp_path}/out\n")
    return argparse.Namespace(
        settings=settings, overrides=["x=1"], dry_run=False, force=False, accelerate=None, ranks=None
    )


def write_file(folder: Path, **values: object) -> Path:
    (folder / "ranks.yaml").write_text(yaml.safe_dump({"num_processes": 2, **values}))
    return folder / "ranks.yaml"


def test_without_ranks_there_is_no_launcher(options: argparse.Namespace, tmp_path: Path) -> None:
    options.overrides = []

    assert make_command(PRETRAIN, options) == []
    assert make_command(SFT, options) == []
    options.overrides = [f"accelerate={write_file(tmp_path, num_processes=1)}"]
    assert make_command(PRETRAIN, options) == []  # pretrain reads the file itself


def test_on_a_cpu_torchs_launcher_starts_the_ranks_of_the_file(options: argparse.Namespace, tmp_path: Path) -> None:
    file = write_file(tmp_path)
    options.overrides = [f"accelerate={file}"]

    command = make_command(PRETRAIN, options)

    assert command[:6] == [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert command[6:8] == ["--signals-to-handle", "SIGQUIT"]
    assert command[8:11] == ["-m", "recipes.pretrain", str(options.settings)]
    assert command[11:] == [f"accelerate={file}"]


def test_on_gpus_accelerate_starts_them(
    options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options.accelerate, options.ranks, options.force = write_file(tmp_path), 8, True

    command = make_command(SFT, options)

    launcher = ["accelerate.commands.launch", "--config_file", str(options.accelerate), "--num_processes", "8"]
    assert command == [
        sys.executable, "-m", *launcher, "-m", "recipes.sft", str(options.settings), "x=1", "--force",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, "many"])
def test_a_count_that_is_none_is_refused(options: argparse.Namespace, tmp_path: Path, count: object) -> None:
    options.accelerate = write_file(tmp_path, num_processes=count)

    with pytest.raises(SettingsError, match=r"set num_processes, or --ranks, to 1 or more"):
        make_command(SFT, options)


def test_a_rank_does_not_launch_again(
    options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(launch, "supervise", lambda command, *, saves: pytest.fail("launched"))
    options.overrides, options.accelerate = [], write_file(tmp_path)

    assert run_or_launch(SFT, options) == 0
    assert "done here" in capsys.readouterr().out


def test_the_launchers_status_is_the_commands(
    options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "supervise", lambda command, *, saves: 7)
    options.overrides, options.accelerate = [], write_file(tmp_path)

    assert run_or_launch(SFT, options) == 7
