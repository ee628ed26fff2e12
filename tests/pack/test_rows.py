"""Rows are a pure function of seed and tokens consumed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.pack.encoder import TokenizerCodec
from codeshell_hf.pack.infilling import Infilling, rearrange_for_infilling
from codeshell_hf.pack.layout import Phase
from codeshell_hf.pack.rows import IGNORED, Batch, Rows
from codeshell_hf.pack.settings import CutLevel, InfillingSettings, Packing, RowSettings
from codeshell_hf.pack.shard_writer import TextDocument, write_shards
from codeshell_hf.text.shards import Header, TokenShards
from codeshell_hf.text.tiktoken_encoder import list_bytes
from codeshell_hf.text.token_files import TokenFiles
from tests.pack.letters import END, SENTINELS, Numbered, make_shards

HALF = Infilling(InfillingSettings(rate=0.5, spm_rate=0.5, cuts={"token": 1.0}))


@pytest.mark.parametrize("row_tokens", [16, 64])
def test_rows_do_not_depend_on_how_they_are_asked_for(shards: TokenShards, row_tokens: int) -> None:
    phases = [Phase(0, row_tokens)]
    whole = Rows(shards, seed=1, phases=phases, infilling=HALF).read(0, 64)

    late = Rows(shards, seed=1, phases=phases, infilling=HALF)
    for consumed, rows in [(40, 3), (0, 5), (63, 1), (7, 2)]:
        piece = late.read(consumed * row_tokens, rows)
        assert np.array_equal(piece.input_ids, whole.input_ids[consumed : consumed + rows])
        assert np.array_equal(piece.labels, whole.labels[consumed : consumed + rows])
        assert np.array_equal(piece.position_ids, whole.position_ids[consumed : consumed + rows])

    other = Rows(shards, seed=2, phases=phases, infilling=HALF).read(0, 64)
    assert not np.array_equal(other.input_ids, whole.input_ids)


def split_pieces(batch: Batch) -> list[list[int]]:
    """The pieces of rows, by their positions; what nothing fills counts as one of end-of-text tokens."""
    pieces: list[list[int]] = []
    for ids, positions in zip(batch.input_ids.tolist(), batch.position_ids.tolist(), strict=True):
        for token, position in zip(ids, positions, strict=True):
            if position == 0:
                pieces.append([])
            assert position == len(pieces[-1])
            pieces[-1].append(token)
    return pieces


def restore(piece: list[int], sentinels: tuple[int, int, int]) -> list[int]:
    """Undoes a rearrangement, by the sentinels alone."""
    prefix, middle, suffix = sentinels
    if prefix not in piece:
        return piece
    assert all(piece.count(sentinel) == 1 for sentinel in sentinels)  # whole, whatever the row
    if piece[1] == suffix:
        after, rest = piece[2 : piece.index(middle)], piece[piece.index(middle) + 1 :]
        return rest + after
    before, after = piece[1 : piece.index(suffix)], piece[piece.index(suffix) + 1 : piece.index(middle)]
    return before + piece[piece.index(middle) + 1 :] + after


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 90), min_size=4, max_size=30).filter(lambda lengths: sum(lengths) > 64),
    st.sampled_from(["best-fit", "end-to-end"]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from([0, 2]),
)
def test_no_token_is_lost_or_doubled_and_each_piece_is_whole(
    lengths: list[int], packing: Packing, rate: float, opens: bool, blocks: int
) -> None:
    documents = Numbered(lengths)
    end, sentinels = documents.header.end_of_text, documents.header.sentinels
    assert sentinels is not None
    rows = Rows(
        documents,
        seed=0,
        phases=[Phase(0, 16), Phase(blocks * 64, 64)],
        infilling=Infilling(InfillingSettings(rate=rate, spm_rate=0.5, cuts={"token": 1.0})),
        settings=RowSettings(packing=packing, predicts_first_token=opens),
    )

    pieces, consumed = [], 0
    while rows.count_epochs(consumed) < 1:
        pieces += split_pieces(rows.read(consumed, 1))
        consumed += rows.find_row_tokens(consumed)

    assert rows.count_epochs(consumed) == 1
    found: list[int] = []
    for piece in pieces:
        tokens = [token for token in restore(piece, sentinels) if token != end]
        assert tokens == list(range(tokens[0], tokens[0] + len(tokens))) if tokens else True  # in order, side by side
        assert len({np.searchsorted(np.cumsum(lengths), token, side="right") for token in tokens}) <= 1
        found += tokens
    assert sorted(found) == list(range(documents.total))


def test_epochs_are_shuffled_anew(shards: TokenShards) -> None:
    rows = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=None)
    epoch = next(row for row in range(1, 99) if rows.count_epochs(row * 64) == 1)

    first, second = rows.read(0, epoch).input_ids, rows.read(epoch * 64, epoch).input_ids

    # Not only the order of rows is another: they hold other documents.
    assert {tuple(row) for row in first.tolist()} != {tuple(row) for row in second.tolist()}


def test_first_tokens_of_pieces_and_what_nothing_fills_are_no_targets(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, ["a" * 9, "b" * 9, "c" * 4])
    batch = Rows(shards, seed=0, phases=[Phase(0, 10)], infilling=None).read(0, 3)

    for ids, positions, labels in zip(batch.input_ids.tolist(), batch.position_ids, batch.labels.tolist(), strict=True):
        letter = ids[0]
        if letter == ord("c"):
            assert ids == [letter] * 4 + [END] * 6
            assert positions.tolist() == [*range(5), *range(5)]
            assert labels == [IGNORED, *[letter] * 3, END, *[IGNORED] * 5]
        else:
            assert ids == [letter] * 9 + [END]
            assert positions.tolist() == list(range(10))
            assert labels == [IGNORED, *[letter] * 8, END]
    assert (batch.input_ids[:, 0] == ord("c")).sum() == 1


def test_the_first_token_is_a_target_where_it_is_asked_for(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, ["abc", "def"])
    settings = RowSettings(predicts_first_token=True)

    batch = Rows(shards, seed=0, phases=[Phase(0, 10)], infilling=None, settings=settings).read(0, 1)

    assert sorted(split_pieces(batch)) == sorted([[END, *map(ord, "abc"), END], [END, *map(ord, "def"), END]])
    assert (batch.labels[0] == IGNORED).nonzero()[0].tolist() == [0, 5]


def test_rearranged_pieces_begin_with_their_sentinel_and_end_with_the_end(shards: TokenShards) -> None:
    rows = Rows(
        shards,
        seed=0,
        phases=[Phase(0, 32)],
        infilling=Infilling(InfillingSettings(rate=1.0, spm_rate=0.5, cuts={"token": 1.0})),
        settings=RowSettings(predicts_first_token=True),
    )

    arranged = [piece for piece in split_pieces(rows.read(0, 60)) if SENTINELS[0] in piece]

    assert all(piece[0] == SENTINELS[0] for piece in arranged)
    # Documents are up to 59 tokens long: a part of one ends its middle, too.
    assert all(piece[-1] == END and piece.count(END) == 1 for piece in arranged)
    assert len(arranged) > 40


@pytest.mark.parametrize("level", ["token", "character"])
def test_middles_end_with_their_document_as_often_as_anywhere(tmp_path: Path, level: str) -> None:
    shards = make_shards(tmp_path, ["abcdefgh"] * 2000)
    infilling = Infilling(
        InfillingSettings(rate=1.0, spm_rate=0.0, cuts={"token" if level == "token" else "character": 1.0}),
        Characters(),
    )
    rows = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=infilling)

    pieces = split_pieces(rows.read(0, 560))
    arranged = [piece for piece in pieces if SENTINELS[0] in piece][:1900]
    without_suffix = sum(tokens.index(SENTINELS[1]) == tokens.index(SENTINELS[2]) + 1 for tokens in arranged)

    # The later of two cuts is the last of nine places with probability 1 - (8 / 9) ** 2 = 0.21; of 1,900 documents,
    # 330 to 468 have none but once in 10,000 runs.
    assert len(arranged) == 1900
    assert 330 < without_suffix < 468


class Characters:
    """Decodes what `Letters` encodes."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


def test_rate_of_infilling_is_what_was_asked(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, ["abcdefgh"] * 2000)
    rows = Rows(
        shards,
        seed=0,
        phases=[Phase(0, 64)],
        infilling=Infilling(InfillingSettings(rate=0.5, spm_rate=0.25, cuts={"token": 1.0})),
    )

    pieces = [piece for piece in split_pieces(rows.read(0, 350)) if ord("a") in piece]

    arranged = [piece for piece in pieces if SENTINELS[0] in piece]
    # Binomials, by shares beyond which 2,000 pieces come once in 10,000 runs. The suffix also comes first in a piece
    # without a prefix: the first cut is at the beginning with probability 1 - (8 / 9) ** 2 = 0.21.
    assert len(pieces) > 1950
    assert 0.455 < len(arranged) / len(pieces) < 0.545
    assert 0.35 < sum(piece[1] == SENTINELS[2] for piece in arranged) / len(arranged) < 0.47


def test_wrong_shards_are_refused(tmp_path: Path, shards: TokenShards) -> None:
    with pytest.raises(DataError, match=r"must lie inside"):
        rearrange_for_infilling(np.arange(4), (3, 5), suffix_first=False, sentinels=SENTINELS)
    with pytest.raises(DataError, match=r"too few for one row of 65536"):
        Rows(shards, seed=0, phases=[Phase(0, 65536)], infilling=None)
    bare = make_shards(tmp_path / "bare", ["abc" * 30], sentinels=None)
    with pytest.raises(DataError, match=r"set infilling to null"):
        Rows(bare, seed=0, phases=[Phase(0, 8)], infilling=HALF)
    with pytest.raises(DataError, match=r"run codeshell pack first"):
        TokenShards(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has token 8364, but the vocabulary has 320 entries"):
        make_shards(tmp_path / "wide", ["\u20ac"])
    with pytest.raises(DataError, match=r"has token 320, but the vocabulary has 320 entries"):
        make_shards(tmp_path / "one-too-many", [chr(320)])


def test_rows_cut_between_characters_are_the_same_however_they_are_asked_for(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    ids = [tiny_tokenizer.convert_tokens_to_ids(f"<fim_{part}>") for part in ("prefix", "middle", "suffix")]
    header = Header(len(tiny_tokenizer), tiny_tokenizer.eos_token_id, tuple(ids), "hash")
    texts = [f"def area_{number}(radius):\n    return {number} * radius ** 2\n" * 3 for number in range(40)]
    rows = [TextDocument(id=str(n), language="python", source="own", text=text) for n, text in enumerate(texts)]
    write_shards(rows, tiny_tokenizer, header, tmp_path)
    cuts = {"character": 0.4, "line": 0.3, "syntax": 0.3}
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.5, cuts=cuts), TokenizerCodec(tiny_tokenizer))

    def read(consumed: int, count: int) -> np.ndarray:
        stream = Rows(TokenShards(tmp_path), seed=0, phases=[Phase(0, 32)], infilling=infilling)
        return stream.read(consumed, count).input_ids

    whole = read(0, 16)
    assert np.array_equal(read(32 * 5, 1)[0], whole[5])
    assert (whole == ids[1]).any()


@pytest.mark.parametrize("level", ["character", "line", "syntax"])
def test_every_byte_of_a_document_longer_than_a_row_is_in_its_rows(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, level: CutLevel
) -> None:
    sentinels = tuple(tiny_tokenizer.convert_tokens_to_ids(f"<fim_{part}>") for part in ("prefix", "middle", "suffix"))
    end = tiny_tokenizer.eos_token_id
    # Three bytes each, so that rows end within characters.
    text = "".join(chr(0x4E00 + place * 7 % 5000) + "\n" * (place % 10 == 0) for place in range(600))
    row: TextDocument = {"id": "0", "language": "python", "source": "own", "text": text}
    write_shards([row], tiny_tokenizer, Header(len(tiny_tokenizer), end, sentinels, "hash"), tmp_path)
    infilling = Infilling(InfillingSettings(rate=1.0, spm_rate=0.5, cuts={level: 1.0}), TokenizerCodec(tiny_tokenizer))
    rows = Rows(TokenShards(tmp_path), seed=0, phases=[Phase(0, 64)], infilling=infilling)

    pieces = split_pieces(rows.read(0, rows.layout.plan(0).end_block))

    letters = list_bytes()
    tokens = [token for piece in pieces for token in piece if token not in {*sentinels, end}]
    found = [letters[letter] for token in tiny_tokenizer.convert_ids_to_tokens(tokens) for letter in token]
    assert sorted(found) == sorted(text.encode("utf-8"))
    assert sum(sentinels[0] in piece for piece in pieces) > 20


def test_a_document_of_many_rows_is_not_read_again_for_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = make_shards(tmp_path, ["abcdefgh" * 800])
    rows = Rows(shards, seed=0, phases=[Phase(0, 64)], infilling=None)
    asked: list[int] = []
    read = TokenFiles.read

    def count(files: TokenFiles, start: int, stop: int) -> np.ndarray:
        asked.append(stop - start)
        return read(files, start, stop)

    monkeypatch.setattr(TokenFiles, "read", count)
    batch = rows.read(0, 100)

    # Once to be checked, and once in parts.
    assert sum(asked) <= 2 * 6400
    assert (batch.input_ids < END).sum() >= 6300
