"""Whose recipes are used: the current folder's, else the package's."""

import os
import sys
from pathlib import Path

import pytest

import recipes
from codeshell_hf.commands import workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in a process that has not imported recipes yet."""
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path) != ROOT])
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_recipes(folder: Path) -> None:
    (folder / "recipes" / "toy").mkdir(parents=True)
    (folder / "recipes" / "__init__.py").touch()
    (folder / "recipes" / "toy" / "pack.yaml").touch()


def test_the_folders_own_recipes_win_and_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_recipes(folder)

    assert workspace.use_workspace() == folder
    workspace.use_workspace(is_silent=True)

    assert capsys.readouterr().err == "codeshell: using the recipes of this folder\n"
    assert sys.path[0] == str(folder)
    assert os.environ["PYTHONPATH"] == f"{folder}{os.pathsep}elsewhere"  # once, for what is started from here


def test_without_any_the_packages_are_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.use_workspace() == ROOT

    assert capsys.readouterr().err == f"codeshell: using the recipes of codeshell-hf in {ROOT}\n"


def test_recipes_that_are_imported_cannot_be_exchanged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_recipes(folder)
    monkeypatch.setitem(sys.modules, "recipes", recipes)

    assert workspace.find_workspace() == ROOT


def test_a_file_is_looked_up_among_the_recipes_in_use_where_the_folder_has_none(folder: Path) -> None:
    nano = Path("recipes") / "nano" / "pack.yaml"

    assert workspace.find_file(nano) == ROOT / nano
    assert workspace.find_file(Path("none.yaml")) == Path("none.yaml")
    nano.parent.mkdir(parents=True)
    nano.touch()
    assert workspace.find_file(nano) == nano


def test_settings_come_from_the_first_folder_that_has_the_system(folder: Path) -> None:
    add_recipes(folder)

    assert workspace.find_settings_files("toy", [folder, ROOT]) == {"pack": Path("recipes/toy/pack.yaml")}
    found = workspace.find_settings_files("nano", [folder, ROOT])
    assert list(found)[:3] == ["curate", "tokenizer", "pack"]
    assert found["pack"] == ROOT / "recipes" / "nano" / "pack.yaml"
    with pytest.raises(ValueError, match="recipes/nanno has no settings of a stage; did you mean 'nano'"):
        workspace.find_settings_files("nanno", [folder, ROOT])
