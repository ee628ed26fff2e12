"""Rows of joined documents: one file of a piece is infilled, behind the others, and nothing else changes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.pack.infilling import Infilling
from codeshell_hf.pack.layout import Phase
from codeshell_hf.pack.marks import Marks
from codeshell_hf.pack.repositories import File, join_files
from codeshell_hf.pack.rows import Rows
from codeshell_hf.pack.settings import InfillingSettings
from codeshell_hf.pack.shard_writer import EncodedDocument, write_encoded
from codeshell_hf.text.shards import Header, TokenShards
from tests.pack.letters import END, SENTINELS, Letters

MARKS = Marks(310, 311, ord("\n"))
PREFIX, MIDDLE, SUFFIX = SENTINELS


@pytest.fixture
def joined(tmp_path: Path) -> TokenShards:
    """Repositories of several files, each file of one letter of its own, in documents of up to 60 tokens."""
    rng = np.random.default_rng(0)
    documents: list[EncodedDocument] = []
    letter = 0x100
    for number in range(30):
        files = []
        for place in range(int(rng.integers(1, 6))):
            files.append(File(f"{place}", "python", "letters", chr(letter) * int(rng.integers(1, 40))))
            letter = letter + 1 if letter < 0x12A else 0x100
        documents += join_files(f"o/{number}", files, Letters(), MARKS, max_tokens=60)
    write_encoded(documents, Header(320, END, SENTINELS, "hash"), tmp_path)
    return TokenShards(tmp_path)


def read_pieces(shards: TokenShards, rate: float, row_tokens: int) -> list[list[int]]:
    """The pieces of an epoch's rows, without padding."""
    infilling = Infilling(InfillingSettings(rate=rate, spm_rate=0.5, cuts={"token": 1.0}), None, MARKS)
    rows = Rows(shards, seed=0, phases=[Phase(0, row_tokens)], infilling=infilling)
    batch = rows.read(0, 60)
    pieces: list[list[int]] = []
    for ids, positions in zip(batch.input_ids.tolist(), batch.position_ids.tolist(), strict=True):
        starts = [place for place, position in enumerate(positions) if position == 0]
        pieces += [ids[start:stop] for start, stop in zip(starts, [*starts[1:], row_tokens], strict=True)]
    return [piece for piece in pieces if set(piece) != {END}]


@pytest.mark.parametrize("row_tokens", [64, 32])
def test_a_middle_lies_in_one_file_and_ends_its_piece(joined: TokenShards, row_tokens: int) -> None:
    infilled = [piece for piece in read_pieces(joined, 1.0, row_tokens) if PREFIX in piece]

    assert len(infilled) > 20
    with_context = 0
    for piece in infilled:
        place = piece.index(PREFIX)
        context, body = piece[:place], piece[place:]
        body = body[: body.index(END)] if END in body else body
        letters = set(body) - {*SENTINELS}
        assert len(letters) <= 1, "no other file, mark or path is between the sentinels"
        assert Counter(body)[MIDDLE] == Counter(body)[SUFFIX] == 1
        assert not set(context) & {*SENTINELS}
        if MARKS.file in context:
            assert context[-1] == MARKS.line_break
            assert MARKS.file in context[-4:], "its path stands before it"
        with_context += context.count(MARKS.file) > 1
    assert with_context > 5


def test_infilling_keeps_all_tokens_of_joined_documents(joined: TokenShards) -> None:
    arranged, plain = (
        Counter(token for piece in read_pieces(joined, rate, 64) for token in piece if token not in {*SENTINELS, END})
        for rate in (1.0, 0.0)
    )
    # Both have read more than an epoch, in rows of other contents, so that counts are compared as shares.
    assert arranged.keys() == plain.keys()
    total, other = sum(arranged.values()), sum(plain.values())
    for token, count in plain.items():
        assert arranged[token] / total == pytest.approx(count / other, abs=0.02)
