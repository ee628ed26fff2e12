"""Merged vocabularies: closed, no dead tokens, and ASCII as it was."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from tests.tokenizer.texts import CHINESE, CODE, HELD_OUT_CHINESE, HELD_OUT_CODE, draw
from tokenizer.characters import has_chinese
from tokenizer.corpus import read_source
from tokenizer.merged import count_uses, drop_chinese, drop_unfit, extend, prune, train_merged
from tokenizer.report import load_any
from tokenizer.settings import Continuation, Merged, NewMerges
from tokenizer.unigram import train_unigram
from tokenizer.vocabulary import (
    BYTES,
    Vocabulary,
    find_dead_tokens,
    read_vocabulary,
)


def test_pruned_vocabulary_is_closed_and_keeps_what_is_used_most(base: Vocabulary) -> None:
    uses = count_uses(base, CODE)

    pruned = prune(base, uses, size=1200, keep_first=400)

    made = set(BYTES)
    for left, right in pruned.merges:
        assert {left, right} <= made
        made.add(left + right)
    assert len(pruned) == len(made) == 1200
    assert pruned.merges[:400] == base.merges[:400]
    assert set(pruned.merges) <= set(base.merges)
    ranks = {token: rank for rank, token in enumerate(sorted(base.tokens, key=lambda t: -uses[base.tokens.index(t)]))}
    dropped = [ranks[token] for token in set(base.tokens) - set(pruned.tokens)]
    assert min(dropped) > 600


def test_words_of_kept_tokens_are_cut_as_before(base: Vocabulary) -> None:
    pruned = prune(base, count_uses(base, CODE), size=1200, keep_first=400)
    before, after = base.make_backend(), pruned.make_backend()
    kept = set(pruned.tokens)
    words = {HELD_OUT_CODE[start:end] for _, (start, end) in before.pre_tokenizer.pre_tokenize_str(HELD_OUT_CODE)}

    same = 0
    for word in words:
        tokens = before.encode(word, add_special_tokens=False).tokens
        if set(tokens) <= kept:
            assert after.encode(word, add_special_tokens=False).tokens == tokens
            same += 1
    assert same > 300


@pytest.mark.parametrize("new_merges", ["beyond-ascii", "chinese"])
def test_new_merges_leave_ascii_as_it_was(base: Vocabulary, new_merges: NewMerges) -> None:
    kept = drop_chinese(base)
    settings = Continuation(new_merges=new_merges)
    extended = extend(kept, {"chinese": draw(CHINESE)}, settings, size=len(kept) + 500)
    ascii_text = HELD_OUT_CODE.encode("ascii", errors="ignore").decode()
    texts = [ascii_text, "“quotes” – dashes… naïve café"] if new_merges == "chinese" else [ascii_text]

    for text in texts:
        assert extended.make_backend().encode(text).tokens == base.make_backend().encode(text).tokens
    assert len(extended.make_backend().encode(HELD_OUT_CHINESE)) < 0.8 * len(
        kept.make_backend().encode(HELD_OUT_CHINESE)
    )


def test_merged_vocabulary_has_no_dead_token_and_ids_in_merge_order(merged: Vocabulary) -> None:
    backend = merged.make_backend(SPECIAL_TOKENS)

    assert find_dead_tokens(backend, merged.tokens) == []
    assert [backend.id_to_token(index) for index in range(len(merged))] == merged.tokens
    assert merged.tokens[:256] == list(BYTES)
    assert [backend.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(2000, 2020))
    products = {left + right for left, right in merged.merges}
    assert products == set(merged.tokens) - set(BYTES)


def test_wrong_sizes_and_texts_are_one_line_with_the_mend(base: Vocabulary, tmp_path: Path) -> None:
    uses = np.zeros(len(base), np.int64)
    with pytest.raises(DataError, match=r"base_size is 500; it must lie between 656 .* and the 1500 entries"):
        prune(base, uses, size=500, keep_first=400)
    with pytest.raises(DataError, match=r"contain no Chinese; name Chinese texts under merged.extend_with"):
        extend(base, {"ascii": draw(["plain ascii"] * 5)}, Continuation(), size=1600)
    with pytest.raises(DataError, match="new entries of 90000; name more of them or lower vocab_size"):
        extend(base, {"chinese": draw(CHINESE[:1])}, Continuation(), size=91500)
    with pytest.raises(DataError, match="lower base_size or raise vocab_size"):
        extend(base, {"chinese": draw(CHINESE)}, Continuation(), size=1000)
    with pytest.raises(SettingsError, match="set it to 532 or more"):
        train_unigram(lambda: CODE, vocab_size=300)
    with pytest.raises(
        DataError, match=r"SentencePiece could not train 49980 pieces .*; give more texts or lower vocab_size"
    ):
        train_unigram(lambda: CODE[:1], vocab_size=50000)
    for name, data, message in (
        ("x.txt", b"\xff\xfe", "is not UTF-8 at byte 0; convert it"),
        ("x.jsonl", b"{", r"line 1 of .* is not JSON"),
        ("y.jsonl", b'{"a": 1}', "has neither text nor messages"),
        ("x.parquet", b"PAR1", "is not a Parquet file with a column text"),
        ("x.docx", b"PK", "is of an unknown kind"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            list(read_source(tmp_path / name))
    with pytest.raises(DataError, match="does not exist; name a file or folder of texts"):
        list(read_source(tmp_path / "none"))
    with pytest.raises(DataError, match=r"cannot be read"):
        read_vocabulary(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read as a tokenizer"):
        load_any(tmp_path / "x.jsonl")


def test_entries_that_break_chinese_go_with_all_that_is_made_of_them() -> None:
    letters = {byte: letter for letter, byte in BYTES.items()}
    one, two = ([letters[byte] for byte in text.encode()] for text in "中文")
    whole = [(one[0], one[1]), (one[0] + one[1], one[2])]
    broken = [("".join(one), two[0]), ("".join([*one, two[0]]), two[1]), ("".join([*one, *two[:2]]), two[2])]
    spaced = [("Ġ", "".join(one))]

    kept = drop_unfit(Vocabulary((*whole, *broken, *spaced, ("a", "b"))))

    assert kept.merges == (*whole, ("a", "b"))
    assert kept.make_backend().encode("中").tokens == ["".join(one)]


@pytest.mark.parametrize("keeps", ["most-used", "all-but-chinese"])
def test_a_merged_vocabulary_can_be_the_base_of_another(
    keeps: Literal["most-used", "all-but-chinese"], merged: Vocabulary, tmp_path: Path
) -> None:
    merged.make_backend(SPECIAL_TOKENS).save(str(tmp_path / "tokenizer.json"))
    size = len(drop_unfit(merged)) if keeps == "most-used" else None
    settings = Merged(extend_with=("chinese",), base=str(tmp_path), keeps=keeps, base_size=size)
    samples = {"code": draw(CODE), "chinese": draw(CHINESE)}

    tokenizer, origins = train_merged(samples, settings, vocab_size=2400, max_positions=None)

    assert sum(origins.values()) == len(tokenizer) == 2400
    assert origins["new"] > 100
    for text in (HELD_OUT_CODE, HELD_OUT_CHINESE):
        assert tokenizer.decode(tokenizer.encode_text(text)) == text


def test_chinese_is_told_from_other_writing() -> None:
    letters = {byte: letter for letter, byte in BYTES.items()}

    def write(text: str) -> str:
        return "".join(letters[byte] for byte in text.encode("utf-8"))

    assert all(has_chinese(write(text)) for text in ("中", "a中", "。", "，", "한"))
    assert not any(has_chinese(write(text)) for text in ("abc", "é", "“", "…", "я", "═"))
