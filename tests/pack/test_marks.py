"""One file of a joined document is infilled behind the others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.pack.marks import Marks, find_marks, require_marks, split_context

REPOSITORY, FILE, BREAK = 1, 2, 3
MARKS = Marks(REPOSITORY, FILE, BREAK)


def test_marks_are_those_of_the_vocabulary(tiny_tokenizer: CodeShellTokenizer) -> None:
    marks = find_marks(tiny_tokenizer)

    assert marks is not None
    names = tiny_tokenizer.convert_ids_to_tokens([marks.repository, marks.file, marks.line_break])
    assert names == ["<reponame>", "<filename>", "Ċ"]  # how byte-level BPE writes a line break


def test_a_vocabulary_without_marks_has_none(
    tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = {name: index for name, index in tiny_tokenizer.get_vocab().items() if name != "<filename>"}
    monkeypatch.setattr(type(tiny_tokenizer), "get_vocab", lambda self: vocabulary)

    assert find_marks(tiny_tokenizer) is None
    with pytest.raises(DataError, match=r"^mine has no <reponame> and <filename>.*; set repositories to null, or pack"):
        require_marks(tiny_tokenizer, Path("mine"))


# A repository "8" of three files: "9" with two tokens, "10" with four, one of which is a line break, and "11" with two.
DOCUMENT = [1, 8, 3, 2, 9, 3, 20, 21, 2, 10, 3, 30, 3, 31, 32, 2, 11, 3, 40, 41]


@pytest.mark.parametrize(
    ("draw", "context", "body"),
    [
        (0.0, [1, 8, 3, 2, 10, 3, 30, 3, 31, 32, 2, 11, 3, 40, 41, 2, 9, 3], [20, 21]),
        (0.24, [1, 8, 3, 2, 10, 3, 30, 3, 31, 32, 2, 11, 3, 40, 41, 2, 9, 3], [20, 21]),
        (0.26, [1, 8, 3, 2, 9, 3, 20, 21, 2, 11, 3, 40, 41, 2, 10, 3], [30, 3, 31, 32]),
        (0.74, [1, 8, 3, 2, 9, 3, 20, 21, 2, 11, 3, 40, 41, 2, 10, 3], [30, 3, 31, 32]),
        (0.76, [1, 8, 3, 2, 9, 3, 20, 21, 2, 10, 3, 30, 3, 31, 32, 2, 11, 3], [40, 41]),
        (0.999, [1, 8, 3, 2, 9, 3, 20, 21, 2, 10, 3, 30, 3, 31, 32, 2, 11, 3], [40, 41]),
    ],
)
def test_a_file_is_drawn_by_its_length_and_goes_behind_the_others(
    draw: float, context: list[int], body: list[int]
) -> None:
    found = split_context(np.array(DOCUMENT), MARKS, draw)

    assert [part.tolist() for part in found] == [context, body]


@pytest.mark.parametrize(
    ("piece", "context", "body"),
    [
        ([20, 21, 22], [], [20, 21, 22]),  # no file begins
        ([20, 2, 9, 3, 30], [20, 2, 9, 3], [30]),  # the end of another file stays before it
        ([20, 21, 2, 9], [20, 21, 2, 9], []),  # cut within a path
        ([20, 2, 9, 3], [20, 2, 9, 3], []),  # cut behind it
        ([2, 9, 3, 2, 10, 3, 30], [2, 9, 3, 2, 10, 3], [30]),  # an empty file is never drawn
        ([2, 9, 3, 30, 2, 10], [2, 10, 2, 9, 3], [30]),
    ],
)
def test_pieces_that_a_row_has_cut(piece: list[int], context: list[int], body: list[int]) -> None:
    for draw in (0.0, 0.5, 0.999):
        found = split_context(np.array(piece), MARKS, draw)

        assert [part.tolist() for part in found] == [context, body]


@given(st.lists(st.sampled_from([REPOSITORY, FILE, BREAK, 20, 21]), max_size=60), st.floats(0, 0.999))
def test_no_token_is_lost_and_a_body_holds_no_mark(tokens: list[int], draw: float) -> None:
    context, body = split_context(np.array(tokens, np.int64), MARKS, draw)

    assert sorted([*context.tolist(), *body.tolist()]) == sorted(tokens)
    assert FILE not in body
    if FILE in tokens and len(body):
        assert BREAK in context
