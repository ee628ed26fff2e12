"""Completing at a place in a file: what is shown, and what is written."""

from pathlib import Path

import pytest

from codeshell_hf.commands import complete
from codeshell_hf.commands.complete import read_place


@pytest.fixture
def folder(learnt_by_heart: Path) -> Path:
    return learnt_by_heart


def test_completion_is_a_diff_and_changes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "area.py"
    file.write_text("def area(r):\n    return \n")

    assert complete.main([str(folder), f"{file}:2", "--max-new-tokens", "40"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "+    return 3.14 * r" in lines
    assert "+    # end" in lines
    assert file.read_text() == "def area(r):\n    return \n"
    assert complete.main([str(folder), f"{file}:2:12", "--line", "--max-new-tokens", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "+    return 3.14 * r" in lines
    assert "+    # end" not in lines


def test_several_completions_differ_and_come_again_with_their_seed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "loop.py"
    file.write_text("for i in x:\n    \n")
    call = [str(folder), f"{file}:2", "--count", "3", "--temperature", "1.9", "--max-new-tokens", "12", "--seed", "3"]

    printed = []
    for _ in range(2):
        assert complete.main(call) == 0
        printed.append(capsys.readouterr().out)

    assert printed[0] == printed[1]
    assert len(set(printed[0].split("--- a/")[1:])) > 1


def test_completion_can_be_written_and_keeps_line_ends_and_rights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "area.py"
    file.write_bytes(b"# \xe9\r\n".decode("latin-1").encode() + b"def area(r):\n    return \n")
    file.chmod(0o755)

    assert complete.main([str(folder), f"{file}:3", "--write", "--line", "--max-new-tokens", "40"]) == 0

    assert file.read_bytes().startswith("# é\r\ndef area(r):\n    return ".encode())
    assert len(file.read_bytes()) > len("# é\r\ndef area(r):\n    return \n".encode())
    assert file.stat().st_mode & 0o777 == 0o755
    assert "characters into" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["area.py"]


def test_places_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    file = tmp_path / "a:b.py"
    file.write_text("x\f1\n\u2028y\nz")

    assert read_place(f"{file}:1")[2] == 3
    assert read_place(f"{file}:2:1")[2] == 4
    assert read_place(f"{file}:3")[2] == 8
    file.write_text("")
    assert read_place(f"{file}:1")[2] == 0


def test_wrong_calls_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_bytes(b"\xff\xfe")
    for call, message in (
        ([str(folder), f"{tmp_path}/a.py"], "is not a position; write FILE:LINE"),
        ([str(folder), f"{tmp_path}/a.py:9"], "has 2 lines, not a line 9"),
        ([str(folder), f"{tmp_path}/a.py:1:9"], "has columns 1 to 6, not 9"),
        ([str(folder), f"{tmp_path}/b.py:1"], "cannot be read as UTF-8"),
        ([str(folder), f"{tmp_path}/c.py:1"], "c.py does not exist; name a text file"),
        ([str(folder), f"{tmp_path}/a.py:1", "--count", "2"], "for more than 1 also --temperature"),
        ([str(folder), f"{tmp_path}/a.py:1", "--max-new-tokens", "159"], "the model has 160 positions"),
        ([str(tmp_path / "none"), f"{tmp_path}/a.py:1"], "does not exist; name a folder"),
    ):
        assert complete.main(call) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert error.strip().count("\n") == 0, error
