"""Transplanted rows."""

import json
from collections.abc import Callable

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from tests.tokenizer.common import CHINESE, CODE, HELD_OUT_CODE, draw
from tokenizer.bpe import train_bpe, train_vocabulary, wrap_backend
from tokenizer.merged import extend
from tokenizer.settings import Continuation
from tokenizer.transplant import Transplant, count_rows, measure_bits, transplant
from tokenizer.vocabulary import (
    parse_vocabulary,
)


def test_transplanted_rows_are_copied_or_pieced(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    old = train_bpe(CODE, vocab_size=600)
    extended = extend(train_vocabulary(CODE, size=500), {"chinese": draw(CHINESE)}, Continuation(), size=700)
    new = wrap_backend(extended.make_backend(SPECIAL_TOKENS))
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()

    moved = transplant(model, old, new)

    after = model.transformer.wte.weight
    shared = set(old.get_vocab()) & set(new.get_vocab())
    assert moved == Transplant(len(shared), 720 - len(shared), 768 - 720)
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
    from tokenizers import Tokenizer

    new = wrap_backend(Tokenizer.from_str(json.dumps(values)))
    model = tiny_model(vocab_size=512, tie_word_embeddings=tied)
    text = HELD_OUT_CODE[:2000]
    before = measure_bits(model, old, text)

    moved = transplant(model, old, new)

    assert moved.pieced == 0
    assert new.encode_text(text) != old.encode_text(text)
    # Padded rows, which the release never trained either, are all that differs.
    assert measure_bits(model, new, text) == pytest.approx(before, rel=0.02)
