"""How stages are run: skipped, continued, replaced as a whole, and refused with an exit code."""

import json
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError, Interrupted
from codeshell_hf.manifest import read_manifest
from recipes.stage import Stage, StageSettings, Work, main


class Settings(StageSettings):
    source: Path
    factor: int = 2
    seed: int = 7


def make_stage(calls: list[str], fail: list[Exception]) -> Stage[Settings]:
    def run(settings: Settings, work: Work) -> None:
        calls.append(",".join(sorted(path.name for path in work.folder.iterdir())))
        (work.folder / "half.txt").write_text("half")
        if fail:
            raise fail.pop()
        (work.folder / "half.txt").rename(work.folder / "whole.txt")
        work.counts = {"lines": len(settings.source.read_text().splitlines()) * settings.factor}

    return Stage("example", Settings, lambda settings: {"source": settings.source}, run)


@pytest.fixture
def call(tmp_path: Path):
    (tmp_path / "source.txt").write_text("a\nb\n")
    (tmp_path / "example.yaml").write_text(f"output: {tmp_path}/out\nsource: {tmp_path}/source.txt\n")
    calls: list[str] = []
    fail: list[Exception] = []
    stage = make_stage(calls, fail)

    def run(*arguments: str) -> int:
        return main(stage, [str(tmp_path / "example.yaml"), *arguments])

    run.calls, run.fail = calls, fail
    return run


def test_manifest_holds_what_made_the_folder(call, tmp_path: Path) -> None:
    assert call() == 0

    manifest = read_manifest(tmp_path / "out")
    assert manifest.stage == "example"
    assert manifest.counts == {"lines": 4}
    assert manifest.seed == 7
    assert manifest.settings["factor"] == 2
    assert list(manifest.outputs) == ["whole.txt"]
    assert manifest.versions["transformers"].startswith("5.")
    assert not list(tmp_path.glob("out.*"))


def test_unchanged_stage_is_skipped_and_a_changed_one_is_not(call, tmp_path: Path, capsys) -> None:
    call()
    assert call() == 0
    assert len(call.calls) == 1
    assert "nothing to do" in capsys.readouterr().out

    call("factor=3")
    (tmp_path / "source.txt").write_text("c\n")
    call("factor=3")
    call("factor=3", "--force")

    assert len(call.calls) == 4


def test_killed_stage_goes_on_where_it_was_and_leaves_the_old_output(call, tmp_path: Path) -> None:
    call()
    call.fail.append(KeyboardInterrupt())

    assert call("factor=3") == 75
    assert read_manifest(tmp_path / "out").settings["factor"] == 2
    assert call("factor=3") == 0

    assert call.calls == ["", "", "half.txt"]
    assert read_manifest(tmp_path / "out").settings["factor"] == 3


def test_work_begun_with_other_settings_is_thrown_away(call) -> None:
    call.fail.append(KeyboardInterrupt())
    call("factor=3")
    call("factor=4")

    assert call.calls == ["", ""]


@pytest.mark.parametrize(("error", "code"), [(DataError("x is 1; mend it"), 2), (Interrupted("saved"), 75)])
def test_errors_of_our_own_become_one_line_and_a_code(call, tmp_path: Path, capsys, error, code: int) -> None:
    call.fail.append(error)

    assert call() == code
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(str(error))
    assert not (tmp_path / "out").exists()


def test_missing_input_is_refused_before_anything_is_made(call, tmp_path: Path, capsys) -> None:
    assert call(f"source={tmp_path}/none") == 2
    assert "does not exist; name a file or folder that does" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_dry_run_prints_settings_and_inputs_and_writes_nothing(call, tmp_path: Path, capsys) -> None:
    assert call("--dry-run") == 0

    printed = capsys.readouterr().out
    assert "factor = 2" in printed
    assert f"reads source: {tmp_path}/source.txt" in printed
    assert not list(tmp_path.glob("out*"))


def test_broken_manifest_counts_as_none(call, tmp_path: Path) -> None:
    call()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"stage": "example"}))

    call()

    assert len(call.calls) == 2
