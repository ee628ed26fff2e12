"""Splitting tests: each assertion alone, with what it needs."""

import ast

import pytest

from codeshell_hf.align.partial_tests import MOST_TESTS, split_tests

FOUR_KINDS = """import math
limit = 3
assert f(1) == 1
def check(candidate):
    assert candidate(2) == 2
    for value in range(limit):
        assert candidate(value) == value
check(f)
"""


def count_asserts(program: str) -> int:
    return sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(program)))


def test_each_assertion_is_alone_and_keeps_what_it_needs() -> None:
    parts = split_tests(FOUR_KINDS)

    assert [count_asserts(part) for part in parts] == [1, 1, 1]
    assert all("import math" in part and "limit = 3" in part and "check(f)" in part for part in parts)
    assert len(set(parts)) == 3
    outcomes = []
    for part in parts:  # by hand: f is right for 1 only, and wrong for 2, and within the loop
        try:
            exec(part, {"f": lambda value: 1})  # noqa: S102 - our own text
        except AssertionError:
            outcomes.append(False)
        else:
            outcomes.append(True)
    assert sorted(outcomes) == [False, False, True]


def test_methods_of_test_classes_count() -> None:
    tests = (
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test(self):\n        self.assertEqual(f(1), 1)\n        self.assertTrue(f(2))\n"
    )

    parts = split_tests(tests)

    assert ["assertEqual" in part for part in parts] == [True, False]
    assert ["assertTrue" in part for part in parts] == [False, True]


@pytest.mark.parametrize("tests", ["assert f(1)", "print(f(1))", "assert (", ""])
def test_one_assertion_or_none_is_one_test(tests: str) -> None:
    assert split_tests(tests) == [tests]


def test_many_assertions_are_tested_in_groups() -> None:
    parts = split_tests("\n".join(f"assert f({number})" for number in range(150)))

    assert len(parts) == MOST_TESTS
    assert sum(map(count_asserts, parts)) == 150
