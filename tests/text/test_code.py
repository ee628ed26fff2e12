"""Code out of an answer."""

from codeshell_hf.text.code import extract_code


def test_code_is_taken_out_of_an_answer() -> None:
    assert extract_code("x = 1") == "x = 1"
    assert extract_code("Sure:\n```python\nx = 1\ny = 2\n```\nand\n```\nz\n```") == "x = 1\ny = 2"
    assert extract_code("```\nx = 1") == "x = 1"
