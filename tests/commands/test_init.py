"""Writing the recipes into a folder: nothing of another's is overwritten unasked, and what is out of date is named."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.commands import init, workspace
from codeshell_hf.commands.workspace import find_packaged
from codeshell_hf.version import __version__


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packaged"
    files = {"recipes/__init__.py": "", "recipes/nano/pack.yaml": "a: 1\n", "tokenizer/bpe.py": "x = 1\n"}
    for name, text in {**files, "recipes/__pycache__/x.pyc": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(init, "find_packaged", lambda: folder)
    return folder


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_files_are_written_once_and_others_are_left_alone(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "own.yaml").write_text("mine\n")

    assert init.main([str(folder)]) == 0
    first = capsys.readouterr().out
    assert init.main([str(folder)]) == 0

    assert list_files(folder) == [
        "recipes/__init__.py", "recipes/nano/pack.yaml", "recipes/own.yaml", "tokenizer/bpe.py",
    ]  # fmt: skip
    assert (folder / "recipes" / "own.yaml").read_text() == "mine\n"
    assert first.startswith("wrote 3 files into ")
    assert capsys.readouterr().out.startswith("wrote 0 files into ")


def test_changed_files_are_named_and_kept_unless_forced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init.main([str(tmp_path)])
    changed = tmp_path / "recipes" / "nano" / "pack.yaml"
    changed.write_text("a: 2\n")
    (tmp_path / "tokenizer" / "bpe.py").unlink()
    capsys.readouterr()

    assert init.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err

    assert error.startswith("init: error: recipes/nano/pack.yaml in ")
    assert error.count("\n") == 1
    assert changed.read_text() == "a: 2\n"
    assert not (tmp_path / "tokenizer" / "bpe.py").exists()  # all or nothing
    assert init.main([str(tmp_path), "--force"]) == 0
    assert changed.read_text() == "a: 1\n"
    assert (tmp_path / "tokenizer" / "bpe.py").exists()


def test_a_checkout_offers_its_own_recipes() -> None:
    assert (find_packaged() / "recipes" / "nano" / "pretrain.yaml").is_file()
    assert (find_packaged() / "tokenizer" / "bpe.py").is_file()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which this version's recipes were written."""
    folder = tmp_path_factory.mktemp("written")
    init.write_workspace(find_packaged(), folder, is_forced=False)
    return folder


def run_with_change(written: Path, folder: Path, old: str, new: str) -> subprocess.CompletedProcess[str]:
    """Runs `codeshell curate` where a line of `recipes/curate.py` is another."""
    shutil.copytree(written, folder)
    recipe = folder / "recipes" / "curate.py"
    before = recipe.read_text()
    assert before.count(old) == 1
    recipe.write_text(before.replace(old, new))
    (folder / "mine").mkdir()
    (folder / "mine" / "a.py").write_text("def f(x):\n    return x\n")
    source = str(Path(init.__file__).parents[2])
    command = [sys.executable, "-m", "codeshell_hf", "curate", "recipes/nano/curate.yaml"]
    return subprocess.run(
        [*command, "sources=[{name: mine, path: mine}]"],
        capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('    name="curate",', '    name="curate", gone=1,', "(TypeError: Stage.__init__() got an unexpected keyword"),
        (
            "import Stage, StageSettings, Work",
            "import gone, Stage, StageSettings, Work",
            "(ImportError: cannot import name 'gone'",
        ),
        (
            '    """Curates and reports."""',
            "    work.gone()",
            "(AttributeError: 'Work' object has no attribute 'gone')",
        ),
    ],
)
def test_recipes_of_another_version_are_told_in_one_line(
    written: Path, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    done = run_with_change(written, tmp_path / "old", old, new)

    *_, line = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert line.startswith("curate: error: line ")
    assert f"of recipes/curate.py does not fit codeshell-hf {__version__} {reason}" in line
    assert line.endswith("`codeshell init . --force`")


def test_a_fault_of_the_library_keeps_its_traceback(written: Path, tmp_path: Path) -> None:
    fault = "    import json; json.dumps(work)  # fails within json"

    done = run_with_change(written, tmp_path / "own", '    """Curates and reports."""', fault)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "TypeError: Object of type Work is not JSON serializable"
    assert "codeshell init" not in done.stderr


def test_recipes_as_they_were_written_keep_their_tracebacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this version's own recipes is a bug, which writing them again does not mend."""
    for name in ("packaged", "here"):
        (tmp_path / name / "recipes").mkdir(parents=True)
        (tmp_path / name / "recipes" / "__init__.py").touch()
        (tmp_path / name / "recipes" / "odd_recipe.py").write_text("def f():\n    return len(1)\n")
    monkeypatch.setattr(workspace, "find_packaged", lambda: tmp_path / "packaged")
    monkeypatch.setattr(workspace, "find_workspace", lambda: tmp_path / "here")
    program = tmp_path / "here" / "recipes" / "odd_recipe.py"
    monkeypatch.syspath_prepend(program.parent)
    fail = importlib.import_module("odd_recipe").f

    def explain() -> str | None:
        try:
            fail()
        except TypeError as error:
            return workspace.explain_misfit(error)
        raise AssertionError("it did not fail")

    assert explain() is None
    (tmp_path / "packaged" / "recipes" / "odd_recipe.py").write_text("def f():\n    return 1\n")
    assert "line 2 of recipes/odd_recipe.py does not fit" in str(explain())
    (tmp_path / "packaged" / "recipes" / "odd_recipe.py").unlink()
    assert explain() is None, "a file that no version had is somebody's own"
