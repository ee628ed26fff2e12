"""Transplanted rows."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from tests.conftest import SHARED, TEXTS
from tests.tokenizer.texts import CHINESE, CODE, HELD_OUT_CODE, draw
from tokenizer.bpe import train_bpe, train_vocabulary, wrap_backend
from tokenizer.focus import make_vectors, sparsemax
from tokenizer.merged import extend
from tokenizer.settings import Continuation
from tokenizer.transplant import Transplant, count_rows, main, measure_bits, transplant
from tokenizer.unigram import train_unigram
from tokenizer.vocabulary import BYTES, parse_vocabulary, to_bytes


def test_transplanted_rows_are_copied_or_pieced(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    old = train_bpe(CODE, vocab_size=600)
    extended = extend(train_vocabulary(CODE, size=500), {"chinese": draw(CHINESE)}, Continuation(), size=700)
    new = wrap_backend(extended.make_backend(SPECIAL_TOKENS))
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()

    moved = transplant(model, old, new)

    after = model.transformer.wte.weight
    shared = set(old.get_vocab()) & set(new.get_vocab())
    assert moved == Transplant(len(shared), 0, 720 - len(shared), (), 768 - 720)
    assert model.config.pad_token_id == new.convert_tokens_to_ids("<fim_pad>")
    assert model.lm_head.weight is after
    assert after.shape == (768, 32)
    for token in list(shared)[:50]:
        assert torch.equal(after[new.get_vocab()[token]], before[old.get_vocab()[token]])
    token = next(token for token in new.get_vocab() if token not in old.get_vocab())
    pieces = [piece.id for piece in old.backend_tokenizer.model.tokenize(token)]
    torch.testing.assert_close(after[new.get_vocab()[token]], before[pieces].mean(0))
    assert model(torch.tensor([new.encode_text("def f(x):")])).logits.shape[-1] == 768


@pytest.mark.parametrize("tied", [True, False])
def test_transplanting_a_reordered_vocabulary_changes_nothing_but_ids(
    tiny_model: Callable[..., CodeShellForCausalLM], tied: bool
) -> None:
    old = train_bpe(CODE, vocab_size=492)
    vocabulary = parse_vocabulary(json.loads(old.backend_tokenizer.to_str()), "old")
    values = json.loads(vocabulary.make_backend(SPECIAL_TOKENS).to_str())
    order = list(values["model"]["vocab"])[::-1]
    values["model"]["vocab"] = {token: index for index, token in enumerate(order)}
    new = wrap_backend(Tokenizer.from_str(json.dumps(values)))
    model = tiny_model(vocab_size=512, tie_word_embeddings=tied)
    text = HELD_OUT_CODE[:2000]
    before = measure_bits(model, old, text)

    moved = transplant(model, old, new)

    assert moved.pieced == 0
    assert new.encode_text(text) != old.encode_text(text)
    # Padded rows, which the release never trained either, are all that differs.
    assert measure_bits(model, new, text) == pytest.approx(before, rel=0.02)


def test_tokens_are_compared_by_bytes_and_not_by_spelling(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    """A byte-level vocabulary writes " def" as "Ġdef" and "中" as three letters, a unigram one as themselves."""
    texts = [*CODE[:8], *CHINESE[:4]]
    old, new = train_bpe(texts, vocab_size=2000), train_unigram(lambda: texts, vocab_size=1600)
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()

    moved = transplant(model, old, new)

    after = model.transformer.wte.weight
    assert moved.unknown == ("<unk>",)  # which never occurs
    assert moved.kept + moved.pieced == len(new) - 1
    assert moved.kept > 600
    mean = before[: len(old)].mean(0)
    for index in range(1, len(new)):
        assert not torch.allclose(after[index], mean), new.convert_ids_to_tokens(index)
    # What both write as one token has the old row; what the old one writes as two, their mean.
    written = {index: str(new.decode([index])) for index in range(257, len(new) - 20)}
    alone = {index: old.encode_text(text) for index, text in written.items() if new.encode_text(text) == [index]}
    assert sum(len(ids) == 1 for ids in alone.values()) > 300
    assert sum(len(ids) == 2 for ids in alone.values()) > 50
    assert any(written[index].startswith(" ") for index in alone)
    for index, ids in alone.items():
        if len(ids) <= 2:
            torch.testing.assert_close(after[index], before[ids].mean(0))


def test_rows_go_from_a_unigram_vocabulary_to_bytes_too(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    texts = [*CODE[:8], *CHINESE[:4]]
    old, new = train_unigram(lambda: texts, vocab_size=1600), train_bpe(texts, vocab_size=2000)
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()

    moved = transplant(model, old, new)

    after = model.transformer.wte.weight
    assert moved.unknown == ()
    lead, ids = new.convert_tokens_to_ids("ä"), old.get_vocab()  # the byte 0xE4, which no character is
    assert torch.equal(after[lead], before[ids["<0xE4>"]])
    half = next(token for token in new.get_vocab() if len(token) == 2 and to_bytes(token) in {b"\xe7\x9a", b"\xe4\xb8"})
    names = [f"<0x{byte:02X}>" for byte in to_bytes(half)]
    torch.testing.assert_close(after[new.get_vocab()[half]], before[[ids[name] for name in names]].mean(0))
    for text in (" ", "a", "\n"):  # a piece, a piece and SentencePiece's byte of it, a byte
        assert torch.equal(after[new.encode_text(text)[0]], before[old.encode_text(text)[0]]), text


def test_what_the_old_vocabulary_cannot_write_is_named(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    """The release lacks 28 control bytes and drops them without a word."""
    values = json.loads(train_bpe(CODE, vocab_size=600).backend_tokenizer.to_str())
    lacking = sorted(letter for letter, byte in BYTES.items() if byte in (1, 11, 12))
    values["model"]["vocab"] = {
        token: number
        for number, token in enumerate(token for token in values["model"]["vocab"] if token not in lacking)
    }
    del values["added_tokens"]
    backend = Tokenizer.from_str(json.dumps(values))
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    old, new = wrap_backend(backend), train_bpe([*CODE, "\x0b\x0c" * 50, "!\x01\n" * 5000], vocab_size=600)
    model = tiny_model(vocab_size=count_rows(len(old)))
    mean = model.transformer.wte.weight[: len(old)].detach().mean(0)

    moved = transplant(model, old, new)

    assert set(moved.unknown) >= set(lacking)
    assert "!" + lacking[0] in moved.unknown  # its sign alone is another text
    assert all({to_bytes(token)[0], to_bytes(token)[-1]} & {1, 11, 12} for token in moved.unknown)
    for token in moved.unknown:
        torch.testing.assert_close(model.transformer.wte.weight[new.get_vocab()[token]], mean)
    assert f"{len(moved.unknown)} the mean of all, such as {moved.unknown[0]!r}" in str(moved)


@pytest.mark.shared
def test_from_the_released_vocabulary_to_unigram_no_row_is_the_mean_without_being_named(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    folder = SHARED / "tokenizers" / "codeshell"
    if not folder.exists():
        pytest.skip("the released vocabulary is not beside this checkout")
    old = CodeShellTokenizer.from_pretrained(folder)
    new = train_unigram(lambda: [*CODE, *CHINESE], vocab_size=6000)
    model = tiny_model(vocab_size=count_rows(len(old)))
    mean = model.transformer.wte.weight[: len(old)].detach().mean(0)

    moved = transplant(model, old, new)

    # Control characters that the release lacks, and bytes that no character in use has.
    lacking = [*range(0x01, 0x09), 0x0B, 0x0C, *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F]
    lacking += [0xC0, 0xC1, 0xF1, *range(0xF5, 0x100)]
    assert set(moved.unknown) == {"<unk>", *(f"<0x{byte:02X}>" for byte in lacking)}
    rows = model.transformer.wte.weight[: len(new)]
    mean_rows = torch.isclose(rows, mean, rtol=1e-4, atol=1e-7).all(1).nonzero()[:, 0].tolist()
    assert set(new.convert_ids_to_tokens(mean_rows)) == set(moved.unknown)


def test_new_tokens_start_from_those_in_the_same_places(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    """The word is new and stands where "value" does, and nothing else does."""
    frames = ["x = {} + 1", "return {} * 2", "if {} > 3:", "print({}, y)", "for {} in z:"]
    words = ["value", "alpha", "omega"]
    text = "\n".join(frame.format(word) for frame in frames for word in words[:1]) + "\n"
    other = "\n".join(f"{word} said that {word} {word}" for word in words[1:]) + "\n"
    old = train_bpe([(text + other) * 60], vocab_size=420)
    new_text = text.replace("value", "total")
    new = train_bpe([(text + other + new_text) * 60], vocab_size=440)
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()
    assert " total" not in old.get_vocab()

    moved = transplant(model, old, new, focus=[(text + other + new_text) * 20])

    after = model.transformer.wte.weight
    (total,), (value,) = new.encode_text(" total"), old.encode_text(" value")
    assert len(old.encode_text(" total")) > 1
    assert moved.focused >= 1
    likeness = torch.nn.functional.cosine_similarity(after[total][None], before[: len(old)])
    assert int(likeness.argmax()) == value


@pytest.mark.parametrize("focus", [["total" * 5], ["to"], ["", ""]], ids=["no kept token", "two tokens", "empty"])
def test_too_short_a_text_to_compare_tokens_leaves_new_ones_to_their_pieces(
    tiny_model: Callable[..., CodeShellForCausalLM], focus: list[str]
) -> None:
    old = train_bpe(["value other"] * 60, vocab_size=284)
    new = train_bpe(["total value other"] * 60, vocab_size=290)
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()
    (total,) = new.encode_text("total")
    pieces = old.encode_text("total")
    assert len(pieces) > 1

    moved = transplant(model, old, new, focus=focus)

    assert moved.focused == 0
    torch.testing.assert_close(model.transformer.wte.weight[total], before[pieces].mean(0))


def test_vectors_of_tokens_that_are_too_rare_are_none() -> None:
    ids = np.array([0, 1, 2] * 20 + [3] * 4, np.int64)

    vectors, known = make_vectors(ids, 6)

    assert known.tolist() == [True, True, True, False, False, False]
    assert vectors[3:].abs().max() == 0
    torch.testing.assert_close(vectors[:3].norm(dim=1), torch.ones(3))


def test_sparse_weights_are_the_nearest_point_of_the_simplex() -> None:
    torch.manual_seed(0)
    scores = torch.randn(20, 6)

    weights = sparsemax(scores)

    torch.testing.assert_close(weights.sum(1), torch.ones(20))
    assert weights.min() == 0
    for row, weight in zip(scores, weights, strict=True):
        # No other point of a fine random grid of the simplex is nearer.
        points = torch.distributions.Dirichlet(torch.full((6,), 0.3)).sample((4000,))
        assert ((points - row) ** 2).sum(1).min() >= ((weight - row) ** 2).sum() - 1e-6


def test_the_command_says_what_became_of_the_rows_and_of_bits_per_byte(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = train_bpe([*TEXTS, *CODE[:2]] * 3, vocab_size=420)
    new.save_pretrained(tmp_path / "new")
    (tmp_path / "text.txt").write_text(TEXTS[0] * 20)
    (tmp_path / "focus.txt").write_text(CODE[0])
    texts = ["--focus", str(tmp_path / "focus.txt"), "--text", str(tmp_path / "text.txt")]

    code = main([str(learnt_by_heart), str(tmp_path / "new"), str(tmp_path / "out"), *texts])

    printed = capsys.readouterr().out
    assert code == 0
    rows = re.search(
        r"rows: (\d+) kept, (\d+) from tokens in similar contexts, (\d+) from pieces, (\d+) padding", printed
    )
    assert rows
    old = CodeShellTokenizer.from_pretrained(learnt_by_heart)
    lacking = {index for token, index in new.get_vocab().items() if token not in old.get_vocab()}
    uses = Counter(new.encode_text(CODE[0]))
    focused = sum(uses[index] >= 5 for index in lacking)
    assert focused > 0
    assert [int(number) for number in rows.groups()] == [420 - len(lacking), focused, len(lacking) - focused, 512 - 420]
    assert re.search(r"bits per byte [\d.]+ -> [\d.]+ \([\d.]+ from pieces alone\)", printed)
    assert len(CodeShellTokenizer.from_pretrained(tmp_path / "out")) == 420
