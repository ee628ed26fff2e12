"""tiktoken gives the same ids, or is not used."""

import collections
import json
import random

import pytest
from tokenizers import Tokenizer

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoder import TokenizerCodec, choose_encoder, count_ids, make_codec
from codeshell_hf.text.tiktoken_encoder import make_tiktoken
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from tests.tokenizer.texts import CHINESE, CODE
from tokenizer.bpe import train_bpe, wrap_backend
from tokenizer.unigram import train_unigram
from tokenizer.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def bpe() -> CodeShellTokenizer:
    return train_bpe([*CODE, *CHINESE[:3]], vocab_size=1500)


def test_tiktoken_gives_the_same_ids_and_is_chosen(bpe: CodeShellTokenizer) -> None:
    texts = [*CODE[:20], *CHINESE[:5], "  1 22\t333\n\n  4", "it's we'll I'D <fim_prefix>", "", "\u3000　 ａ１ ²³"]

    encoder, choice = choose_encoder(bpe, texts)

    assert choice == f"encodes with tiktoken: the same ids on {len(texts)} documents"
    expected = bpe(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    assert [ids.tolist() for ids in encoder(texts, **options)["input_ids"]] == expected
    several = make_tiktoken(bpe.backend_tokenizer, threads=3)
    assert [ids.tolist() for ids in several(texts)["input_ids"]] == expected


def test_tiktoken_is_passed_by_where_it_cannot_be_exact(bpe: CodeShellTokenizer) -> None:
    values = json.loads(bpe.backend_tokenizer.to_str())
    shuffled = list(values["model"]["vocab"])
    random.Random(0).shuffle(shuffled)
    values["model"]["vocab"] = {token: index for index, token in enumerate(shuffled)}
    del values["added_tokens"]
    released_like = wrap_backend(Tokenizer.from_str(json.dumps(values)))
    unigram = train_unigram(lambda: CODE, vocab_size=600)

    for tokenizer, reason in (
        (released_like, "ids are not in the order"),
        (unigram, "is Unigram, and tiktoken supports"),
    ):
        encoder, choice = choose_encoder(tokenizer, CODE[:3])
        assert encoder is tokenizer
        assert reason in choice


def test_codec_of_a_real_tokenizer_gives_text_and_ids_back(tiny_tokenizer: CodeShellTokenizer) -> None:
    text = "def area(radius):\n    return '<fim_middle>' + '面积'\n"
    for codec in (TokenizerCodec(tiny_tokenizer), make_codec(tiny_tokenizer, [text])):
        ids = codec.encode(text)
        assert max(ids) < len(tiny_tokenizer) - 20, "nothing in a document is special"
        assert codec.decode(ids) == text


def test_tiktoken_is_not_used_where_its_ids_differ(bpe: CodeShellTokenizer) -> None:
    values = json.loads(bpe.backend_tokenizer.to_str())
    del values["added_tokens"]
    values["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    with_space = wrap_backend(Tokenizer.from_str(json.dumps(values)))

    encoder, choice = choose_encoder(with_space, CODE[:3])

    assert encoder is with_space
    assert choice.startswith("encodes with tokenizers: the pre-tokenizer is not one of starcoder, gpt4")


def test_tiktoken_is_not_used_where_it_joins_what_no_merge_does() -> None:
    """Its merges are any two entries whose bytes make a third: of "abc", "a" and "bc" although only "ab" and "c" do."""
    merges = (("b", "c"), ("a", "b"), ("ab", "c"))
    tokenizer = wrap_backend(Vocabulary(merges).make_backend(SPECIAL_TOKENS))
    assert tokenizer.tokenize("abc") == ["a", "bc"]

    encoder, choice = choose_encoder(tokenizer, ["abc", "x"])

    assert encoder is tokenizer
    assert choice == "encodes with tokenizers: tiktoken differs on 1 of 2 documents"


def test_ids_are_counted_by_either_encoder(bpe: CodeShellTokenizer) -> None:
    texts = [*CODE[:600], *CHINESE[:5]]
    for tokenizer in (bpe, train_unigram(lambda: CODE, vocab_size=600)):
        backend = tokenizer.backend_tokenizer
        expected = collections.Counter(
            token for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in ids
        )

        counts = count_ids(backend, iter(texts))

        assert len(counts) == backend.get_vocab_size()
        assert {token: count for token, count in enumerate(counts.tolist()) if count} == expected
