"""Objects of a user's own files: what is loaded, and what a wrong reference is answered."""

import os
import pickle
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.extensions import find_extension_file, load_object

CODE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Pair:
    first: int = 1

def double(value):
    return 2 * value
"""


def test_an_object_is_found_by_file_and_name_and_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)

    double, pair = load_object("mine.py:double"), load_object(f"{tmp_path}/mine.py:Pair")

    assert callable(double)
    assert callable(pair)
    assert double(4) == 8
    assert pickle.loads(pickle.dumps(pair())) == pair()  # noqa: S301 - its own bytes


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("value = 1\n")
    assert load_object(f"{path}:value") == 1

    path.write_text("value = 2\n")
    os.utime(path, ns=(0, 12345))

    assert load_object(f"{path}:value") == 2


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere.py:double", "nowhere.py cannot be read"),
        ("mine.py:triple", "mine.py defines no 'triple'; it defines Pair, dataclass, double"),
        ("broken.py:x", "broken.py failed: ZeroDivisionError"),
    ],
)
def test_a_wrong_reference_is_one_line_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, message: str
) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("x = 1 / 0\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError, match=message) as caught:
        load_object(reference)

    assert "\n" not in str(caught.value)


def test_a_reference_has_a_file_and_a_plain_name_has_none() -> None:
    found = [find_extension_file(name) for name in ("tests", "a/b.py:x", "humaneval-v1")]

    assert found == [None, Path("a/b.py"), None]
