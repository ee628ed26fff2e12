"""Writing the recipes into a folder: nothing of another's is overwritten unasked."""

from pathlib import Path

import pytest

from codeshell_hf.commands import init
from codeshell_hf.commands.workspace import find_packaged


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
