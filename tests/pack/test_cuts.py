"""Cuts between lines and between parts of the syntax."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf.pack.cuts import cut_lines, cut_syntax

PROGRAM = """def area(radius):
    # Of a circle. \u5706
    return 3 * radius ** 2


def twice(x):
    y = x + x
    return y
"""


@given(st.text(alphabet="ab\n", max_size=30), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_middle_is_whole_lines(text: str, one: float, two: float) -> None:
    start, end = cut_lines(text, (min(one, two), max(one, two)))

    assert 0 <= start <= end <= len(text)
    assert start == 0 or text[start - 1] == "\n"
    assert end == len(text) or text[end] == "\n"


def test_every_run_of_lines_up_to_the_end_of_the_text_is_drawn() -> None:
    places = [(place + 0.5) / 30 for place in range(30)]

    found = {cut_lines("a\nbb\nccc", (one, two)) for one in places for two in places if one <= two}

    assert found == {(0, 1), (2, 4), (5, 8), (0, 4), (2, 8), (0, 8)}


@pytest.mark.parametrize(
    ("first", "last", "middle"),
    [
        ("dius **", "**", "radius **"),  # two children of a product
        ("y = x", "return y", "y = x + x\n    return y"),  # two statements of a block
        ("def area", "def twice", PROGRAM.strip()),  # two functions of a module
        ("3", "3", "3"),  # a leaf
    ],
)
def test_a_middle_is_the_nodes_that_a_span_touches(first: str, last: str, middle: str) -> None:
    start, stop = PROGRAM.index(first), PROGRAM.index(last) + len(last)

    found = cut_syntax(PROGRAM, (start, stop), "python")

    assert found is not None
    assert PROGRAM[slice(*found)] == middle


def test_languages_without_a_grammar_have_no_cuts_by_syntax() -> None:
    assert cut_syntax("text", (0, 4), "unknown") is None


@given(st.text(max_size=40), st.data())
def test_any_text_is_cut_inside(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    found = cut_syntax(text, (start, end), "python")

    assert found is None or 0 <= found[0] < found[1] <= len(text)
