"""Faults of each kind, by hand."""

import pytest

from codeshell_hf.text.faults import list_more_faults, mutate

FAULTS = {
    "comparison": ("x < 3", "x <= 3"),
    "second comparison": ("0 < x < 3", "0 < x <= 3"),
    "constant": ("f(2)", "f(3)"),
    "number": ("x * 0.5", "x * 1.5"),
    "text": ("x + 'a'", "x + ''"),
    "arithmetic": ("x + y", "x - y"),
    "condition": ("a if x else b", "a if not x else b"),
    "negation": ("not x", "not not x"),
    "sign": ("-x", "+x"),
    "connective": ("x and y", "x or y"),
    "smallest": ("min(x)", "max(x)"),
    "range": ("range(n)", "range(n - 1)"),
    "range with a start": ("range(x, n, y)", "range(x, n - 1, y)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_kind_of_fault_is_made(name: str) -> None:
    right, wrong = FAULTS[name]

    assert f"def f(x):\n    return {wrong}\n" in mutate(f"def f(x):\n    return {right}\n", list_more_faults)


def test_returns_and_updates_are_lost() -> None:
    source = "def f(x):\n    if x:\n        x += g()\n        h(x)\n        return 1\n    return x\n"

    mutants = mutate(source, list_more_faults)

    assert source.replace("return x", "return None") in mutants
    assert source.replace("x += g()", "pass") in mutants
    assert source.replace("h(x)", "pass") in mutants


def test_the_only_return_is_left_since_an_empty_body_does_the_same() -> None:
    assert "def f(x):\n    return None\n" not in mutate("def f(x):\n    return x\n", list_more_faults)


def test_so_many_faults_are_spread_over_the_program() -> None:
    source = "".join(f"x{number} = {number}\n" for number in range(100))

    mutants = mutate(source, at_most=4)

    changed = [
        next(place for place, line in enumerate(text.split("\n")) if line != f"x{place} = {place}") for text in mutants
    ]
    assert changed == [0, 25, 50, 75]


def test_docstrings_are_left_and_equal_faults_are_one() -> None:
    mutants = mutate('def f():\n    """Doc."""\n    return 1\n', list_more_faults)

    assert mutants == ['def f():\n    """Doc."""\n    return 2\n']
    assert mutate("def f(:") == []
