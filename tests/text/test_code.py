"""The code in an answer."""

import pytest

from codeshell_hf.text.code import extract_code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1"),
        ("```\nx = 1\ny = 2\n```", "x = 1\ny = 2"),
        ("```c++\nint x;\n```\n```python\nx\n```", "int x;"),  # the first of several
        ("Sure.\n```python\nx = 1", "x = 1"),  # cut before its end
        ("x = 1", "x = 1"),
        ("```python\ns = '`````'\n```", "s = '`````'"),  # a fence begins a line
    ],
)
def test_code_is_the_first_block_or_all(answer: str, code: str) -> None:
    assert extract_code(answer) == code
