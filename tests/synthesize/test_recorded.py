"""Recorded replies."""

import json
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.synthesize.recorded import read_recorded
from codeshell_hf.text.replies import Reply

ROOT = Path(__file__).parents[2]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_rows_are_read_with_what_they_have(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        json.dumps({"reply": "x\u2028y", "seed": "s", "licence": "MIT", "finish_reason": "length", "answers": ["b"]}),
        "",
        json.dumps({"reply": "z", "written_in": "zh"}),
    )

    first, second = read_recorded(path)

    assert (first.id, first.source) == (f"{path.as_posix()}:1", f"{path.as_posix()}:1")
    assert first.reply == Reply("x\u2028y", "length")
    assert (first.seed_text, first.licence, first.written_in) == ("s", "MIT", "en")
    assert first.answers == (Reply("b", "stop"),)
    assert (second.id[-2:], second.written_in, second.answers, second.seed_text) == (":3", "zh", (), "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reply": ', "line 1 of .* is not JSON"),
        ("[1]", "is no object"),
        ("{}", "has no reply"),
        ('{"reply": 3}', "has reply '3', which is no text"),
        ('{"reply": "x", "written_in": "fr"}', "written_in 'fr'; write en or zh"),
        ('{"reply": "x", "answers": "y"}', "answers that are no list"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_recorded(write(tmp_path / "a.jsonl", line)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_recorded(tmp_path / "none.jsonl"))


def test_the_committed_replies_are_read() -> None:
    assert len(list(read_recorded(ROOT / "recipes" / "nano" / "data" / "replies.jsonl"))) == 38
