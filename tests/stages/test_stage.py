"""How stages are run: skipped, continued, replaced as a whole, and refused with an exit code."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from codeshell_hf.dependencies import hash_code
from codeshell_hf.errors import DataError, Interrupted
from codeshell_hf.manifest import Manifest, read_manifest
from codeshell_hf.settings import InputPath, Section
from codeshell_hf.stages import output_lock
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main


class Inner(Section):
    sizes: tuple[int, ...] = (1, 2)


class Settings(StageSettings):
    source: InputPath
    factor: int = 2
    seed: int = 7
    inner: Inner = Inner()


def make_stage(
    calls: list[str],
    fail: list[BaseException],
    *,
    checkpoint_globs: tuple[str, ...] = (),
    changeable: tuple[str, ...] = (),
) -> Stage[Settings]:
    def run(settings: Settings, work: Work) -> None:
        calls.append(",".join(sorted(path.name for path in work.folder.iterdir())))
        (work.folder / "half.txt").write_text("half")
        if fail:
            raise fail.pop()
        (work.folder / "half.txt").rename(work.folder / "whole.txt")
        work.counts = {"lines": len(settings.source.read_text().splitlines()) * settings.factor}

    return Stage(
        "example",
        Settings,
        run,
        checkpoint_globs=checkpoint_globs,
        changeable_on_resume=changeable,
    )


class Caller:
    """Runs a stage over settings in a folder; `calls` are the files that each run found, `fail` what stops the next."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.calls: list[str] = []
        self.fail: list[BaseException] = []
        self.stage = make_stage(self.calls, self.fail)

    def __call__(self, *arguments: str) -> int:
        return main(self.stage, [str(self.home / "example.yaml"), *arguments])

    def manifest(self) -> Manifest:
        manifest = read_manifest(self.home / "out")
        assert manifest is not None
        return manifest


@pytest.fixture
def call(tmp_path: Path) -> Caller:
    (tmp_path / "source.txt").write_text("a\nb\n")
    (tmp_path / "example.yaml").write_text(f"output: {tmp_path}/out\nsource: {tmp_path}/source.txt\n")
    return Caller(tmp_path)


def test_manifest_holds_what_made_the_folder(call: Caller, tmp_path: Path) -> None:
    assert call() == 0

    manifest = call.manifest()
    assert manifest.stage == "example"
    assert manifest.counts == {"lines": 4}
    assert manifest.seed == 7
    assert manifest.code_at_start == manifest.code == hash_code(Path(__file__))
    assert manifest.settings["factor"] == 2
    assert list(manifest.outputs) == ["whole.txt"]
    assert manifest.versions["transformers"].startswith("5.")
    assert not list(tmp_path.glob("out.*"))


def test_unchanged_stage_is_skipped_and_a_changed_one_is_not(
    call: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call()
    assert call() == 0
    assert len(call.calls) == 1
    assert "nothing to do" in capsys.readouterr().out

    call("factor=3")
    (tmp_path / "source.txt").write_text("c\n")
    call("factor=3")
    call("factor=3", "--force")

    assert len(call.calls) == 4


def test_an_output_that_was_moved_is_up_to_date(call: Caller, tmp_path: Path) -> None:
    call()
    (tmp_path / "out").rename(tmp_path / "moved")

    assert call(f"output={tmp_path}/moved") == 0

    assert len(call.calls) == 1


def test_killed_stage_goes_on_where_it_was_and_leaves_the_old_output(call: Caller, tmp_path: Path) -> None:
    call()
    call.fail.append(KeyboardInterrupt())

    assert call("factor=3") == 75
    assert call.manifest().settings["factor"] == 2
    assert call("factor=3") == 0

    assert call.calls == ["", "", "half.txt"]
    assert call.manifest().settings["factor"] == 3


def test_work_begun_with_other_settings_is_thrown_away(call: Caller) -> None:
    call.fail.append(KeyboardInterrupt())
    call("factor=3")
    call("factor=4")

    assert call.calls == ["", ""]


def test_costly_work_goes_on_with_what_is_free_and_is_refused_with_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source.txt").write_text("a\nb\n")
    (tmp_path / "example.yaml").write_text(f"output: {tmp_path}/out\nsource: {tmp_path}/source.txt\n")
    calls: list[str] = []
    fail: list[BaseException] = [KeyboardInterrupt(), KeyboardInterrupt()]
    stage = make_stage(calls, fail, checkpoint_globs=("no-such-*", "half*"), changeable=("seed",))

    def run(*arguments: str) -> int:
        return main(stage, [str(tmp_path / "example.yaml"), *arguments])

    assert run("factor=3") == 75
    assert run("factor=4") == 2
    complaint = f"{tmp_path}/out.partial was started with factor 3, and now it is 4; set it back, set output"
    assert complaint in capsys.readouterr().err
    (tmp_path / "source.txt").write_text("c\n")
    assert run("factor=3") == 2
    assert "was started with source " in capsys.readouterr().err
    (tmp_path / "source.txt").write_text("a\nb\n")
    assert run("factor=3", "seed=8") == 75

    assert calls == ["", "half.txt"]


def test_checkpoints_survive_a_code_change_and_the_manifest_names_the_first_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source.txt").write_text("a\nb\n")
    (tmp_path / "example.yaml").write_text(f"output: {tmp_path}/out\nsource: {tmp_path}/source.txt\n")
    module = ModuleType("example")
    module.__file__ = str(tmp_path / "example.py")
    monkeypatch.setitem(sys.modules, "example", module)
    calls: list[str] = []
    fail: list[BaseException] = [KeyboardInterrupt(), KeyboardInterrupt()]
    stage = make_stage(calls, fail, checkpoint_globs=("half*",))
    stage.run.__module__ = "example"
    hashes = []
    for version, code in ((1, 75), (2, 75), (3, 0)):
        (tmp_path / "example.py").write_text(f"VERSION = {version}\n")
        hashes.append(hash_code(tmp_path / "example.py"))

        assert main(stage, [str(tmp_path / "example.yaml")]) == code
        assert ("resumes work that other code started" in capsys.readouterr().out) == (version > 1)

    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert calls == ["", "half.txt", "half.txt"]
    assert (manifest.code_at_start, manifest.code) == (hashes[0], hashes[2])
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("mark", ["", '"0f3a"', '{"given": 3, "code": null}', None])
def test_checkpoints_of_unknown_settings_are_not_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mark: str | None
) -> None:
    (tmp_path / "source.txt").write_text("a\nb\n")
    (tmp_path / "example.yaml").write_text(f"output: {tmp_path}/out\nsource: {tmp_path}/source.txt\n")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half.txt").write_text("half")
    if mark is not None:
        (tmp_path / "out.partial.json").write_text(mark)
    calls: list[str] = []

    assert main(make_stage(calls, [], checkpoint_globs=("half*",)), [str(tmp_path / "example.yaml")]) == 2
    assert "out.partial.json does not say which settings started it; set output" in capsys.readouterr().err
    assert (tmp_path / "out.partial" / "half.txt").exists()
    assert main(make_stage(calls, []), [str(tmp_path / "example.yaml")]) == 0
    assert calls == [""]


def test_what_cost_nothing_yet_does_not_hold_a_run_to_its_settings(call: Caller, tmp_path: Path) -> None:
    stage = make_stage([], [DataError("x is 1; fix it")], checkpoint_globs=("no-such-*",))

    assert main(stage, [str(tmp_path / "example.yaml")]) == 2
    assert main(stage, [str(tmp_path / "example.yaml"), "factor=3"]) == 0


@pytest.mark.parametrize(("error", "code"), [(DataError("x is 1; fix it"), 2), (Interrupted("saved"), 75)])
def test_errors_of_our_own_become_one_line_and_a_code(
    call: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    call.fail.append(error)

    assert call() == code
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(str(error))
    assert not (tmp_path / "out").exists()


def test_missing_input_is_refused_before_anything_is_made(
    call: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"source={tmp_path}/none") == 2
    assert "does not exist; name a file or folder that does" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_dry_run_prints_settings_and_inputs_and_writes_nothing(
    call: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--dry-run") == 0

    printed = capsys.readouterr().out
    assert "factor = 2" in printed
    assert f"reads source: {tmp_path}/source.txt" in printed
    assert not list(tmp_path.glob("out*"))


def test_broken_manifest_counts_as_none(call: Caller, tmp_path: Path) -> None:
    call()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"stage": "example"}))

    call()

    assert len(call.calls) == 2


def test_what_another_run_wrote_before_this_one_had_the_lock_is_not_made_again(
    call: Caller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other run ends just before this one takes the lock."""
    lock, others = output_lock.lock_output, ["other"]

    @contextmanager
    def wait(output: Path) -> Iterator[None]:
        if others:
            others.pop()
            assert call() == 0
        with lock(output):
            yield

    monkeypatch.setattr(output_lock, "lock_output", wait)

    assert call() == 0

    assert call.calls == [""]
    assert "nothing to do, another run has written" in capsys.readouterr().out


def test_checkpoints_of_a_release_without_a_setting_are_continued_with_its_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the record, what this release has added is taken away; a value other than the default is still refused."""
    (tmp_path / "source.txt").write_text("a\nb\n")
    (tmp_path / "example.yaml").write_text(f"output: {tmp_path}/out\nsource: {tmp_path}/source.txt\n")
    calls: list[str] = []
    fail: list[BaseException] = [KeyboardInterrupt(), KeyboardInterrupt()]
    stage = make_stage(calls, fail, checkpoint_globs=("half*",))
    assert main(stage, [str(tmp_path / "example.yaml")]) == 75
    record = tmp_path / "out.partial.json"
    values = json.loads(record.read_text())
    for name in ("factor", "inner.sizes"):
        del values["given"][name]
    record.write_text(json.dumps(values))

    assert main(stage, [str(tmp_path / "example.yaml"), "factor=3"]) == 2
    assert "out.partial was started with factor 2, and now it is 3; set it back" in capsys.readouterr().err
    assert main(stage, [str(tmp_path / "example.yaml"), "inner.sizes=[1]"]) == 2
    assert "was started with inner.sizes [1, 2], and now it is [1]" in capsys.readouterr().err
    assert main(stage, [str(tmp_path / "example.yaml")]) == 75
    assert calls == ["", "half.txt"]
