"""Rows are a pure function of seed and tokens consumed."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.pack.encoder import TokenizerCodec
from codeshell_hf.pack.infilling import Infilling, rearrange_for_infilling
from codeshell_hf.pack.rows import IGNORED, Phase, Rows, describe_rows
from codeshell_hf.pack.shards import Document, write_shards
from codeshell_hf.pack.stream import read_step
from codeshell_hf.text.shards import Header, TokenShards
from tests.pack.common import END, SENTINELS, make_shards


class Characters:
    """Decodes what `Letters` encodes."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


@pytest.mark.parametrize("row_tokens", [16, 64])
def test_rows_do_not_depend_on_how_they_are_asked_for(shards: TokenShards, row_tokens: int) -> None:
    phases, infilling = [Phase(0, row_tokens)], Infilling(0.5, 0.5)
    whole = Rows(shards, seed=1, phases=phases, infilling=infilling).read(0, 64)

    late = Rows(shards, seed=1, phases=phases, infilling=infilling)
    for consumed, rows in [(40, 3), (0, 5), (63, 1), (7, 2)]:
        piece = late.read(consumed * row_tokens, rows)
        assert np.array_equal(piece.input_ids, whole.input_ids[consumed : consumed + rows])
        assert np.array_equal(piece.labels, whole.labels[consumed : consumed + rows])
        assert np.array_equal(piece.position_ids, whole.position_ids[consumed : consumed + rows])

    other = Rows(shards, seed=2, phases=phases, infilling=infilling).read(0, 64)
    assert not np.array_equal(other.input_ids, whole.input_ids)


def test_an_epoch_holds_every_document_once_and_each_is_shuffled_anew(shards: TokenShards) -> None:
    rows = Rows(shards, seed=0, phases=[Phase(0, 8)], infilling=None)
    stream = shards.header.tokens + len(shards)
    blocks = stream // 8
    epochs = [rows.read(epoch * blocks * 8, blocks).input_ids for epoch in range(2)]

    for ids in epochs:
        kept = np.bincount(ids.ravel(), minlength=320)
        expected = np.bincount(shards.tokens, minlength=320)
        expected[END] = len(shards)
        assert kept.sum() == blocks * 8
        assert (kept <= expected).all()
        assert (expected - kept).sum() == stream - blocks * 8 < 8  # what does not fill a row falls
    assert not np.array_equal(epochs[0], epochs[1])
    assert rows.count_epochs(3 * blocks * 4) == pytest.approx(1.5, abs=0.01)


def test_a_change_of_length_loses_and_doubles_nothing(shards: TokenShards) -> None:
    long = Rows(shards, seed=3, phases=[Phase(0, 32)], infilling=None)
    mixed = Rows(shards, seed=3, phases=[Phase(0, 8), Phase(320, 32)], infilling=None)
    total = 40 * 32

    expected = np.sort(long.read(0, 40).input_ids.ravel())
    first, rest = mixed.read(0, 40), mixed.read(320, 30)

    assert first.input_ids.shape == (40, 8)
    assert rest.input_ids.shape == (30, 32)
    assert np.array_equal(np.sort(np.concatenate([first.input_ids.ravel(), rest.input_ids.ravel()])), expected)
    assert mixed.find_row_tokens(319) == 8
    assert mixed.find_row_tokens(total - 1) == 32


def test_rows_of_a_step_come_from_many_documents(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, [chr(33 + index) * 1024 for index in range(40)])
    rows = Rows(shards, seed=0, phases=[Phase(0, 16), Phase(12800, 64)], infilling=None)

    batch = rows.read(0, 32)

    assert len(set(batch.input_ids[:, 0].tolist())) > 10


def test_positions_and_labels_stop_at_documents(shards: TokenShards) -> None:
    batch = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=Infilling(0.5, 0.5)).read(0, 20)

    starts = 0
    for ids, positions, labels in zip(batch.input_ids, batch.position_ids, batch.labels, strict=True):
        for place in range(1, 64):
            begins = ids[place - 1] == END
            starts += begins
            assert positions[place] == (0 if begins else positions[place - 1] + 1)
            assert labels[place] == (IGNORED if begins else ids[place])
    assert starts > 20


def test_infilling_stays_inside_documents_and_differs_between_epochs(shards: TokenShards) -> None:
    rows = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=Infilling(1.0, 0.5))
    forms = []
    for epoch in range(2):
        plan = rows._plan(epoch)
        arranged = {int(plan.order[place]): rows._arrange(plan, place).tolist() for place in range(len(shards))}
        for document, tokens in arranged.items():
            letter = 33 + document
            assert tokens[-1] == END
            assert set(tokens[:-1]) == {letter, *SENTINELS}
            assert tokens.count(letter) == len(shards[document])
            assert len(tokens) == len(shards[document]) + 4
        forms.append(arranged)
    assert forms[0] != forms[1]
    suffix_first = sum(tokens[1] == SENTINELS[2] for tokens in forms[0].values())
    # 60 documents at 0.5, some of whose prefixes are empty: 12 to 55 but once in a million.
    assert 12 < suffix_first < 55


@pytest.mark.parametrize("codec", [None, Characters()])
def test_middles_end_with_their_document_as_often_as_anywhere(tmp_path: Path, codec: Characters | None) -> None:
    shards = make_shards(tmp_path, ["abcdefgh"] * 2000)
    rows = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=Infilling(1.0, 0.0, codec))

    plan = rows._plan(0)
    arranged = [rows._arrange(plan, place).tolist() for place in range(2000)]
    without_suffix = sum(tokens.index(SENTINELS[1]) == tokens.index(SENTINELS[2]) + 1 for tokens in arranged)

    # The later of two cuts is the last of nine places with probability 1 - (8 / 9) ** 2 = 0.21; of 2,000 documents,
    # 349 to 491 have none but once in 10,000 runs.
    assert 349 < without_suffix < 491


def test_rate_of_infilling_is_what_was_asked(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, ["abcdefgh"] * 2000)

    plan = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=Infilling(0.5, 0.25))._plan(0)

    # Binomials of 2,000: beyond these bounds once in 10,000 runs.
    assert 912 < plan.is_infilling.sum() < 1088
    assert 424 < plan.is_suffix_first.sum() < 576


def test_wrong_shards_and_phases_are_refused(tmp_path: Path, shards: TokenShards) -> None:
    with pytest.raises(DataError, match=r"lies|must lie inside"):
        rearrange_for_infilling(np.arange(4), (3, 5), suffix_first=False, sentinels=SENTINELS)
    with pytest.raises(DataError, match=r"run codeshell pack first"):
        TokenShards(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"too few for one row of 65536"):
        Rows(shards, seed=0, phases=[Phase(0, 65536)], infilling=None)
    with pytest.raises(SettingsError, match=r"let all lengths and steps divide evenly"):
        Rows(shards, seed=0, phases=[Phase(0, 24), Phase(96, 32)], infilling=None)
    bare = make_shards(tmp_path / "bare", ["abc" * 30], sentinels=None)
    with pytest.raises(DataError, match=r"set infilling to null"):
        Rows(bare, seed=0, phases=[Phase(0, 8)], infilling=Infilling(0.5, 0.5))
    with pytest.raises(DataError, match=r"has token 8364, but the vocabulary has 320 entries"):
        make_shards(tmp_path / "wide", ["\u20ac"])
    with pytest.raises(DataError, match=r"has token 320, but the vocabulary has 320 entries"):
        make_shards(tmp_path / "one-too-many", [chr(320)])
    (tmp_path / "tokens.bin").write_bytes(b"\0\0")
    with pytest.raises(DataError, match=r"run codeshell pack again"):
        TokenShards(tmp_path)


def test_use_of_rows_is_told(tmp_path: Path) -> None:
    used, cut = describe_rows(np.array([7, 7, 3, 20]), 8)

    # 8 + 8 + 4 + 21 tokens with their ends: five rows of eight of 41; the last document reaches over three of them.
    assert used == pytest.approx(40 / 41)
    assert cut == pytest.approx(1 / 4)


def test_rows_cut_between_characters_are_the_same_however_they_are_asked_for(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    ids = [tiny_tokenizer.convert_tokens_to_ids(f"<fim_{part}>") for part in ("prefix", "middle", "suffix")]
    header = Header(len(tiny_tokenizer), tiny_tokenizer.eos_token_id, tuple(ids), "hash")
    texts = [f"def area_{number}(radius):\n    return {number} * radius ** 2\n" * 3 for number in range(40)]
    rows = [Document(id=str(n), language="python", source="own", text=text) for n, text in enumerate(texts)]
    write_shards(rows, tiny_tokenizer, header, tmp_path)
    infilling = Infilling(1.0, 0.5, TokenizerCodec(tiny_tokenizer))

    def read(consumed: int, count: int) -> np.ndarray:
        stream = Rows(TokenShards(tmp_path), seed=0, phases=[Phase(0, 32)], infilling=infilling)
        return stream.read(consumed, count).input_ids

    whole = read(0, 16)
    assert np.array_equal(read(32 * 5, 1)[0], whole[5])
    assert (whole == ids[1]).any()


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_ranks_read_the_same_step_between_them(shards: TokenShards, ranks: int) -> None:
    rows = Rows(shards, seed=0, phases=[Phase(0, 16)], infilling=Infilling(0.5, 0.5))
    consumed, step_tokens, micro_tokens = 512, 16 * 16, 32

    read = [read_step(rows, consumed, step_tokens, micro_tokens, rank, ranks) for rank in range(ranks)]

    # Micro-batches go round the ranks: rank 0 has the first, rank 1 the second, and so on.
    found = [batches[turn].input_ids for turn in range(len(read[0])) for batches in read]
    assert np.array_equal(np.concatenate(found), rows.read(consumed, 16).input_ids)
