"""Pieces are the text, and removing none leaves it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf.curate.repetition import hash_pieces, remove_pieces, split_pieces
from codeshell_hf.curate.settings import Piece


@given(st.text(alphabet="ab \n", max_size=60), st.sampled_from(["line", "paragraph"]))
def test_pieces_are_the_text_and_removing_none_leaves_it(text: str, kind: Piece) -> None:
    assert "".join(piece + between for piece, between in split_pieces(text, kind)) == text
    assert remove_pieces(text, kind, np.empty(0, np.int64), min_bytes=1) == text
    every = np.array(hash_pieces(text, kind, min_bytes=1), np.int64)
    assert not remove_pieces(text, kind, every, min_bytes=1).strip("\n")
