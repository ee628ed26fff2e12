"""SAFIM: what is taken from an answer, by the syntax around the gap."""

import json
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.evaluate.safim import take_block, take_call, take_condition
from tests.evaluate.sets import SMALL


def find(part: str, number: int) -> Problem:
    return read_problems(SMALL / f"safim-{part}.jsonl", PROFILES[f"safim-{part}-v1"].read)[number]


def test_a_block_ends_before_the_code_that_is_none_of_the_gap() -> None:
    python, java = find("block", 0), find("block", 1)

    assert (
        take_block(python, "total += number\n    total += 0\nprint(total)\nx = 1\n")
        == "total += number\n    total += 0\n"
    )
    assert take_block(python, "total +=\n") == ""
    assert take_block(java, "total += in.nextInt();\n} return; }\n") == "total += in.nextInt();\n"
    assert take_block(java, "}\nint x = 1;\n") == ""


def test_a_condition_ends_at_its_line_or_parenthesis() -> None:
    python, java = find("control", 0), find("control", 1)

    assert take_condition(python, "\n a > b\n or c") == " a > b"
    assert take_condition(java, "f(a) > b) {\n x") == "f(a) > b"
    assert take_condition(java, "a > b") == "a > b"


def test_a_call_ends_at_its_parenthesis() -> None:
    python = find("api", 0)

    assert take_call(python, "f(a, g(b)).h(c)") == "f(a, g(b))"
    assert take_call(python, "f(a") == "f(a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lang": "cobol"}, "language 'cobol'"),
        ({"prompt": "no gap"}, "no single gap"),
        ({"unit_tests": "[{]"}, "unit_tests that cannot be read"),
        ({"unit_tests": '[{"input": "1"}]'}, "unit_tests that cannot be read"),
    ],
)
def test_broken_rows_are_named(change: dict[str, str], message: str, tmp_path: Path) -> None:
    row = json.loads((SMALL / "safim-control.jsonl").read_text(encoding="utf-8").split("\n")[0])
    path = tmp_path / "safim.jsonl"
    path.write_text(json.dumps({**row, **change}))

    with pytest.raises(DataError, match=message):
        read_problems(path, PROFILES["safim-control-v1"].read)
