"""HumanEval+ and MBPP+: inputs as the original tests have them, and verdicts by EvalPlus' rules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.evalplus import (
    BY_NUMBER,
    MORE_TESTS,
    read_evalplus,
    read_mbpp_plus,
    read_verdicts,
    write_values,
)
from codeshell_hf.evaluate.evalplus_check import compare_outputs
from codeshell_hf.evaluate.execution import find_failures, open_executor, score_programs
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.sandbox import Program, Sandbox

ROW = {
    "task_id": "Mbpp/900", "prompt": '"""\nHalve a number.\n"""\n', "entry_point": "halve",
    "canonical_solution": "\ndef halve(x):\n    return x / 2\n", "base_input": [[4]],
    "plus_input": [[0], [-3], [1e308], [float("inf")]], "atol": 0,
}  # fmt: skip

# Function, expected, written, tolerance of the data, and whether EvalPlus calls it right: today, and at first.
RULES: list[tuple[str, object, object, float, bool, bool]] = [
    ("f", (1, 2), [1, 2], 0, False, False),  # a list is no tuple
    ("f", 1, True, 0, True, True),  # but equality is Python's
    ("f", 2.0, 2, 0, True, True),
    ("f", 2.5, 2.5 + 1e-7, 0, True, True),  # a float is expected, so 1e-6 is allowed
    ("f", 2.5, 2.5 + 1e-5, 0, False, False),
    ("f", 2.5, 2.5 + 1e-5, 1e-4, True, True),
    ("f", 3, 3 + 1e-7, 0, False, False),  # an int is expected
    ("f", 3, 3 + 1e-7, 1e-4, False, True),  # of another type
    ("f", [1.0, 2.0], [1.0 + 1e-8, 2.0], 0, True, True),
    ("f", [1.0, 2.0], (1.0 + 1e-8, 2.0), 0, False, True),
    ("f", [1.0, 2.0], [1.0 + 1e-8], 0, False, False),
    ("f", [1.0, "a"], [1.0 + 1e-8, "a"], 0, False, False),
    ("f", float("nan"), float("nan"), 0, False, True),
    ("f", float("inf"), float("inf"), 0, True, True),
    ("f", [(1.0, 2.0)], [(1.0, 2.0 + 1e-7)], 1e-4, True, True),
    ("f", "a", "b", 1e-4, False, False),
    ("f", None, None, 0, True, True),
    ("f", None, 0.0, 1e-4, False, False),
    ("similar_elements", (1, 2), [2, 1, 1], 0, True, False),
    ("Diff", [1, 2], [2], 0, False, False),
    ("check_str", object(), True, 0, True, True),
    ("check_str", None, False, 0, True, True),
    ("check_str", None, True, 0, False, False),
    ("text_match_three", object(), "found", 0, True, True),
    ("are_equivalent", True, False, 0, True, True),
    ("sum_div", 7, 0, 0, True, True),
    ("sum_div", 7, 8, 0, False, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "written", "tolerance", "today", "at_first"), RULES)
def test_outputs_are_compared_by_the_rules(
    name: str, expected: object, written: object, tolerance: float, today: bool, at_first: bool
) -> None:
    def judge(*, is_first: bool) -> bool:
        try:
            compare_outputs(
                name, lambda _: written, lambda _: expected, [[0]], tolerance, least_s=4, factor=4, is_first=is_first
            )
        except (AssertionError, TypeError):
            return False
        return True

    assert (judge(is_first=False), judge(is_first=True)) == (today, at_first)


def test_a_float_sets_the_tolerance_of_all_inputs_behind_it() -> None:
    def reference(x: float) -> float:
        return x

    def wrong_a_little(x: float) -> float:
        return x + 1e-7 if isinstance(x, float) else x

    compare_outputs("f", wrong_a_little, reference, [[2.0], [1]], 0, least_s=4, factor=4)
    with pytest.raises(AssertionError):
        compare_outputs("f", lambda x: x + 1, reference, [[2.0], [1]], 0, least_s=4, factor=4)


def test_an_endless_call_is_stopped_by_itself() -> None:
    def endless(_: int) -> None:
        while True:
            pass

    with pytest.raises(TimeoutError):
        compare_outputs("f", endless, lambda _: 1, [[1]], 0, least_s=0.05, factor=1)


@pytest.mark.parametrize(
    ("number", "given", "expected"),
    [
        (2, [[1, 2], [3]], [(1, 2), (3,)]),
        (63, [[[1, 2], [3, 4]]], [[(1, 2), (3, 4)]]),
        (75, [[[1, 2]], 5], [[(1, 2)], 5]),
        (106, [[1], [2, 3]], [[1], (2, 3)]),
        (115, [[[1, 2], [], 3]], [[{1, 2}, {}, {}]]),
        (124, ["1.5", "2j"], [1.5, 2j]),
        (250, [[1, 2], 3], [(1, 2), 3]),
        (252, ["1+2j"], [1 + 2j]),
        (259, [[[1, 2]], [[3, 4]]], [((1, 2),), ((3, 4),)]),
        (278, [[1, [2, 3]]], [(1, (2, 3))]),
        (307, [[1], 2, 3], [(1,), 2, 3]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
        (722, [{"a": [1, 2]}, 3], [{"a": (1, 2)}, 3]),
    ],
)
def test_arguments_are_those_of_the_original_tests(number: int, given: list[Any], expected: list[Any]) -> None:
    assert BY_NUMBER[number](given) == expected


def test_infinities_are_written() -> None:
    values = [[float("inf"), "inf", [-float("inf"), 1]]]
    assert eval(write_values(values)) == values  # noqa: S307 - our own text


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_row(**changes: object) -> Path:
        path = tmp_path / "plus.jsonl"
        path.write_text(json.dumps({**ROW, **changes}) + "\n", encoding="utf-8")
        return path

    return write_row


def test_both_columns_are_scored(write: Callable[..., Path], sandbox: Sandbox) -> None:
    profile = PROFILES["mbpp-plus-v1"]
    (problem,) = read_mbpp_plus(write())
    executor = open_executor(profile, [problem], sandbox)
    programs = [
        "def halve(x):\n    return x / 2\n",
        "def halve(x):\n    return x // 2\n",  # right for 4 alone
        "def halve(x):\n    return 1\n",
        "class Any(float):\n    __eq__ = lambda *_: True\ndef halve(x):\n    return Any(7)\n",
    ]

    score = score_programs(executor, [problem], {problem.key: programs})

    assert {name: measure.value for name, measure in score.measures.items()} == {"pass@1": 0.5, "pass@1 (+)": 0.25}


def test_the_order_of_sets_can_be_that_of_another_interpreter(write: Callable[..., Path], sandbox: Sandbox) -> None:
    source = "def find_dissimilar(x, y):\n    return tuple(set(x) ^ set(y))\n"
    words = [list("abcdefghijkl"), list("mnopqrstuvwx")]
    row = {"entry_point": "find_dissimilar", "prompt": "", "canonical_solution": source, "base_input": [[[1], [2]]]}
    path = write(**row, plus_input=[words])

    def judge(**rules: bool) -> tuple[bool, ...]:
        (problem,) = read_evalplus(path, **rules)
        tests = (problem.tests, problem.notes[MORE_TESTS])
        programs = [Program(source, text, names=("find_dissimilar",)) for text in tests]
        return tuple(verdict.passed for verdict in sandbox.run(programs))

    assert judge() == judge(is_first=True) == judge(is_elsewhere=True) == (True, True)
    assert judge(is_first=True, is_elsewhere=True) == (True, False)  # but for 1 in 24!


def test_a_reference_has_to_pass_the_additional_inputs_too(write: Callable[..., Path], sandbox: Sandbox) -> None:
    (problem,) = read_mbpp_plus(write())
    executor = open_executor(PROFILES["mbpp-plus-v1"], [problem], sandbox)

    assert find_failures(executor, {problem: "def halve(x):\n    return x // 2\n"}).keys() == {problem}


def test_a_problem_without_further_inputs_is_read_and_others_are_named(write: Callable[..., Path]) -> None:
    (problem,) = read_mbpp_plus(write(plus_input={}))
    assert "[]" in problem.notes[MORE_TESTS]
    with pytest.raises(DataError, match=r"plus\.jsonl line 1 has no lists base_input and plus_input"):
        read_mbpp_plus(write(plus_input="[[1]]"))


def test_verdicts_are_read_as_both_columns(tmp_path: Path) -> None:
    rows = [
        {"task_id": "a", "solution": "s", "base": base, "plus": plus}
        for base, plus in (("pass", "fail"), ("fail", "pass"))
    ]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    assert read_verdicts(tmp_path / "v.jsonl") == {"a": [("s", True, False), ("s", False, False)]}
