"""Answers on disk, and programs of other harnesses."""

import json
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.completions import CompletionFile, Format, read_programs, write_programs
from codeshell_hf.evaluate.generation import Completion
from codeshell_hf.evaluate.problems import Problem


def test_a_file_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    origin = {"weights": "w", "seed": 0}
    first = CompletionFile(tmp_path, "task-model", origin)
    for index in range(3):
        first.add(
            f"py/{index}", "q", [Completion(f"text {index} \ud800".encode("utf-8", "replace").decode(), 3, "stop")]
        )
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-9])

    second = CompletionFile(tmp_path, "task-model", origin)

    assert len(second) == 2
    assert second.find("py/2", "q") is None
    second.add("py/2", "q", first.find("py/2", "q") or [])
    assert second.path.read_bytes() == whole
    assert second.find("py/1", "q") is not None
    assert second.find("py/1", "asked otherwise") is None
    assert CompletionFile(tmp_path, "task-model", {**origin, "seed": 1}).path != second.path
    assert json.loads(whole.splitlines()[0])["origin"] == origin


PROBLEMS = [Problem("t/1", "py", "def f():\n", None, "    return 1\n"), Problem("t/2", "py", "def g():\n")]


PROGRAMS = {"py/t/1": ["def f():\n    return 1\n", "def f(): pass\n"], "py/t/2": ["x = 'é'\n", "y\n"]}


@pytest.mark.parametrize(("layout", "name"), [("bigcode", "g.json"), ("evalplus", "g.jsonl")])
def test_programs_come_back_from_other_layouts(tmp_path: Path, layout: Format, name: str) -> None:
    write_programs(tmp_path / name, PROBLEMS, PROGRAMS, layout)

    assert read_programs(tmp_path / name, PROBLEMS) == PROGRAMS


def test_completions_of_human_eval_get_their_prompt(tmp_path: Path) -> None:
    rows = [{"task_id": "t/1", "completion": "    return 2\n"}, {"task_id": "t/2", "solution": "all"}]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    read = read_programs(tmp_path / "s.jsonl", PROBLEMS)

    assert read == {"py/t/1": ["def f():\n    return 2\n"], "py/t/2": ["all"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.json", '[["a"]]', "answers 1 problems, but the data hold 2"),
        ("g.json", '[["a"], ["b"', "cannot be read"),
        ("g.json", '{"a": 1}', "is not a list of lists"),
        ("s.jsonl", '{"task_id": "t/1", "solution": "x"}', "no answer to 1 of 2 problems, such as t/2"),
        ("s.jsonl", '{"task_id": "t/9", "solution": "x"}', "answers 't/9', which the data do not hold"),
        ("s.jsonl", '{"task_id": "t/1"}', "has neither solution nor completion"),
    ],
)
def test_half_a_file_of_programs_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(DataError, match=message):
        read_programs(tmp_path / name, PROBLEMS)


def test_coderujb_gets_a_list_with_outputs(tmp_path: Path) -> None:
    write_programs(tmp_path / "u.json", PROBLEMS, PROGRAMS, "coderujb")

    rows = json.loads((tmp_path / "u.json").read_text())
    assert [row["task_id"] for row in rows] == ["t/1", "t/2"]
    assert [row["task_idx"] for row in rows] == [0, 1]  # by which its evaluation finds the row
    assert rows[0]["outputs"] == PROGRAMS["py/t/1"]
