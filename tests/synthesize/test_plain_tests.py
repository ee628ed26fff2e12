"""Tests as models write them, and as they are run."""

import pytest

from codeshell_hf.sandbox import Program, Sandbox
from codeshell_hf.synthesize.plain_tests import count_assertions, make_plain

RIGHT, WRONG = "def f(x):\n    return x + 1", "def f(x):\n    return x"
FORMS = {
    "plain": "assert f(1) == 2  # one",
    "an import of the answer": "from solution import f\nassert f(1) == 2",
    "an import of the answer's package": "from .main import f\nimport solution\nassert f(1) == 2",
    "test functions": "def test_one():\n    assert f(1) == 2\n\ndef test_two():\n    assert f(2) == 3",
    "test functions that are called": "def test_one():\n    assert f(1) == 2\n\ntest_one()",
    "a guard": "def test_one():\n    assert f(1) == 2\n\nif __name__ == '__main__':\n    test_one()",
    "pytest": "import sys\n\ndef test_one():\n    assert f(1) == 2\n\nif __name__ == '__main__':\n    pytest.main()",
    "unittest": "import unittest\n\nclass TestF(unittest.TestCase):\n    def test_one(self):\n"
    "        self.assertEqual(f(1), 2)\n\nif __name__ == '__main__':\n    unittest.main()",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_tests(name: str, sandbox: Sandbox) -> None:
    tests = make_plain(FORMS[name])
    assert tests is not None

    right, wrong = sandbox.run([Program(RIGHT, tests), Program(WRONG, tests)])

    assert right.passed, right
    assert wrong.reason == "AssertionError"


def test_plain_tests_keep_their_comments() -> None:
    assert make_plain(FORMS["plain"]) == FORMS["plain"]


def test_what_is_not_python_is_none() -> None:
    assert make_plain("assert f(1) ==") is None


def test_test_functions_that_want_arguments_are_left_alone() -> None:
    assert make_plain("def test_all(case):\n    assert f(case)") == "def test_all(case):\n    assert f(case)"


def test_assertions_are_counted() -> None:
    assert count_assertions("assert a\nfor x in y:\n    assert x") == 2
    assert count_assertions(FORMS["unittest"]) == 1
    assert count_assertions("try:\n    f(0)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError") == 1
    assert count_assertions("print(f(1))") == 0
    assert count_assertions("assert (") == 0
