"""Two judges' rules for what a program prints, by cases that were decided by hand from their released code."""

import pytest

from codeshell_hf.sandbox.inside.outputs import is_same_by_lines, is_same_by_words


@pytest.mark.parametrize(
    ("output", "expected", "by_lines", "by_words"),
    [
        ("1 2\n", "1 2", True, True),
        ("  1 2  \n\n", "1 2", True, True),
        (" 1\n  2 ", "1\n2", True, True),
        ("1\n2", "1 2", False, True),  # words of the second may stand on other lines
        ("1  2", "1 2", True, True),  # equal numbers
        ("a  b", "a b", False, True),
        ("1.0", "1", True, True),
        ("0.5000000000001", "0.5", False, True),  # to 1e-12
        ("0.50000000001", "0.5", False, False),
        ("50000000000000001", "50000000000000000", False, False),  # floats would be equal
        ("YES", "Yes", False, True),
        ("NOPE", "Nope", False, False),
        ("", "1", False, False),
        ("1\n1", "1", False, False),
        ("x", "1", False, False),
        ("nan", "nan", True, True),
        ("1\r\n2\r\n", "1\n2", True, True),
    ],
)
def test_outputs_are_compared_as_by_the_judges(output: str, expected: str, *, by_lines: bool, by_words: bool) -> None:
    assert (is_same_by_lines(output, expected), is_same_by_words(output, expected)) == (by_lines, by_words)
