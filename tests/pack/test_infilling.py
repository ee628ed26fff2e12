"""Rearranged pieces keep their tokens and text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf.errors import DataError
from codeshell_hf.pack.infilling import (
    LEVELS,
    Draws,
    Infilling,
    draw_cuts,
    place_cuts,
    rearrange,
    rearrange_for_infilling,
)
from codeshell_hf.pack.marks import Marks
from codeshell_hf.pack.settings import CutLevel, InfillingSettings
from tests.pack.letters import SENTINELS


@given(st.lists(st.integers(0, 299), max_size=40), st.data(), st.booleans())
def test_rearranged_documents_give_back_the_original(
    tokens: list[int], data: st.DataObject, suffix_first: bool
) -> None:
    start = data.draw(st.integers(0, len(tokens)))
    end = data.draw(st.integers(start, len(tokens)))

    arranged = rearrange_for_infilling(
        np.array(tokens, np.int64), (start, end), suffix_first=suffix_first, sentinels=SENTINELS
    ).tolist()

    prefix_at, middle_at, suffix_at = (arranged.index(sentinel) for sentinel in SENTINELS)
    assert prefix_at == 0
    if suffix_first:
        suffix, rest = arranged[suffix_at + 1 : middle_at], arranged[middle_at + 1 :]
        assert suffix_at == 1
        assert rest + suffix == tokens
    else:
        prefix, suffix = arranged[1:suffix_at], arranged[suffix_at + 1 : middle_at]
        assert prefix + arranged[middle_at + 1 :] + suffix == tokens


def test_cuts_fall_at_every_place_of_a_document_equally_often() -> None:
    evenly = (np.arange(900) + 0.5) / 900

    places = [place_cuts((cut, cut), 8) for cut in evenly]

    # Before, between and behind eight tokens: nine places, so that a middle may also end with the document.
    assert np.unique(places, axis=0).tolist() == [[place, place] for place in range(9)]
    assert np.bincount([start for start, _ in places]).tolist() == [100] * 9


class Words:
    """Encodes pairs of letters as one id, so that a cut inside a pair takes two."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(value % 1000) + (chr(value // 1000) if value >= 1000 else "") for value in ids)

    def encode(self, text: str) -> list[int]:
        pairs = [text[place : place + 2] for place in range(0, len(text), 2)]
        return [ord(pair[0]) + (1000 * ord(pair[1]) if len(pair) > 1 else 0) for pair in pairs]


class Nothing:
    """Decodes and encodes nothing right: twice as many tokens come back."""

    def decode(self, ids: list[int]) -> str:
        return "x" * len(ids)

    def encode(self, text: str) -> list[int]:
        return [0] * (4 * len(text))


def draw(level: CutLevel, cuts: list[float], *, suffix_first: bool) -> Draws:
    return Draws(
        np.array([cuts], np.float32),
        np.array([LEVELS.index(level)], np.int8),
        np.array([suffix_first]),
        np.array([0.6]),
    )


def read_parts(found: list[int], sentinels: tuple[int, int, int]) -> tuple[list[int], list[int], list[int]]:
    """Prefix, middle and suffix of a rearranged piece; of a suffix-first one the prefix and middle as one."""
    parts: dict[int, list[int]] = {}
    for value in found:
        if value in sentinels:
            held = parts.setdefault(value, [])
        else:
            held.append(value)
    prefix, middle, suffix = (parts[sentinel] for sentinel in sentinels)
    return prefix, middle, suffix


@pytest.mark.parametrize("level", ["character", "line", "syntax"])
@given(text=st.text(alphabet="abcdefgh\n", min_size=1, max_size=40), data=st.data(), suffix_first=st.booleans())
def test_cuts_in_the_text_keep_the_text_and_add_few_tokens(
    level: CutLevel, text: str, data: st.DataObject, suffix_first: bool
) -> None:
    codec = Words()
    tokens = np.array(codec.encode(text), np.int64)
    cuts = sorted([data.draw(st.floats(0, 0.999)), data.draw(st.floats(0, 0.999))])
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.5, cuts={level: 1.0}), codec)
    sentinels = (-1, -2, -3)

    drawn = draw(level, cuts, suffix_first=suffix_first)
    found = rearrange(tokens, drawn, 0, infilling, "python", sentinels, 4)

    assert len(found) <= len(tokens) + 3 + 4
    prefix, middle, suffix = read_parts(found.tolist(), sentinels)
    assert not (suffix_first and prefix)  # the middle follows the prefix without a sentinel
    assert codec.decode(prefix) + codec.decode(middle) + codec.decode(suffix) == text


def test_a_piece_to_which_cuts_would_add_more_is_cut_between_tokens() -> None:
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.0, cuts={"character": 1.0}), Nothing())

    found = rearrange(
        np.arange(8), draw("character", [0.25, 0.5], suffix_first=False), 0, infilling, "python", (-1, -2, -3), 4
    )

    assert found.tolist() == [-1, 0, 1, -3, 4, 5, 6, 7, -2, 2, 3]


def test_each_level_is_drawn_as_often_as_it_was_asked_for() -> None:
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.25, cuts={"line": 0.25, "character": 0.75}), Words())

    draws = draw_cuts(infilling, 2000, np.random.default_rng(0))

    # Binomials of 2,000: beyond these bounds once in 10,000 runs.
    assert np.bincount(draws.levels, minlength=4)[[0, 3]].tolist() == [0, 0]
    assert 424 < (draws.levels == LEVELS.index("line")).sum() < 576
    assert 424 < draws.is_suffix_first.sum() < 576
    assert (draws.fractions[:, 0] <= draws.fractions[:, 1]).all()
    assert draws.fractions.max() < 1


def test_one_file_of_joined_ones_is_rearranged_behind_the_others() -> None:
    marks = Marks(repository=1, file=2, line_break=3)
    piece = np.array([1, 8, 3, 2, 9, 3, 20, 21, 2, 10, 3, 30, 31, 32, 33])
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.0, cuts={"token": 1.0}), marks=marks)

    found = rearrange(piece, draw("token", [0.3, 0.5], suffix_first=False), 0, infilling, "python", (-1, -2, -3), 4)

    # The draw of 0.6 falls on the four tokens of the second file, whose second is the middle.
    context = [1, 8, 3, 2, 9, 3, 20, 21, 2, 10, 3]
    assert found.tolist() == [*context, -1, 30, -3, 32, 33, -2, 31]


class Pythons(Words):
    """A path is one token, 9, and a program one token a letter."""

    def decode(self, ids: list[int]) -> str:
        return {9: "a/b.py", 10: "b.sql"}[ids[0]] if ids in ([9], [10]) else "".join(map(chr, ids))

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


@pytest.mark.parametrize(("path", "middle"), [(9, "b"), (10, "f(b)")])
def test_one_of_joined_files_is_cut_by_the_syntax_of_its_own_language(path: int, middle: str) -> None:
    marks = Marks(repository=1, file=2, line_break=3)
    piece = np.array([1, 8, 3, 2, path, 3, *map(ord, "f(b)")])
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.0, cuts={"syntax": 1.0}), Pythons(), marks)

    found = rearrange(piece, draw("syntax", [0.5, 0.5], suffix_first=False), 0, infilling, "markdown", (-1, -2, -3), 4)

    # The b in f(b) is a node of Python, but no file of SQL has a grammar here: its one line is the middle.
    held = found.tolist()
    assert "".join(map(chr, held[held.index(-2) + 1 :])) == middle


def test_cuts_in_the_text_need_a_codec() -> None:
    with pytest.raises(DataError, match=r"without a codec; give one, or cut only by token"):
        Infilling(InfillingSettings(rate=0.5, spm_rate=0.5, cuts={"token": 0.5, "line": 0.5}))
    assert Infilling(InfillingSettings(rate=0.5, spm_rate=0.5, cuts={"token": 1.0, "line": 0.0})).max_added == 0
