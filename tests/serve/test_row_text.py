"""Text of rows: whole characters, stops, and the tokens that belong to what is shown."""

import random

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.serve.row_text import RowText, TextPiece, TokenDecoder
from codeshell_hf.serve.sampling import ChosenToken


def feed(tokenizer: CodeShellTokenizer, ids: list[int], stops: list[str]) -> list[TextPiece]:
    row = RowText(tokenizer, stops)
    pieces = []
    for token in ids:
        pieces.append(row.take(ChosenToken(token)))
        if pieces[-1].end:
            return pieces
    return [*pieces, row.end("length")]


@pytest.mark.parametrize("text", ["返回 r", "def f(x):\n\treturn '𝔘𝔫𝔦 é'", "  a  b ", "\u2028|", "x" * 40])
def test_characters_come_whole_and_all_of_them_do(text: str, tiny_tokenizer: CodeShellTokenizer) -> None:
    pieces = feed(tiny_tokenizer, tiny_tokenizer.encode_text(text), ["|<end>|"])

    assert "".join(piece.text for piece in pieces) == text
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert [token.chosen.id for piece in pieces for token in piece.tokens] == tiny_tokenizer.encode_text(text)


def test_bytes_that_are_no_text_neither_block_the_rest_nor_change_it(tiny_tokenizer: CodeShellTokenizer) -> None:
    """Against decoding all at once, on chains of random tokens, most of which are parts of no character."""
    rng = random.Random(0)
    for _ in range(200):
        ids = [rng.randrange(256) if rng.random() < 0.7 else rng.randrange(300) for _ in range(rng.randrange(1, 30))]
        decoder = TokenDecoder(tiny_tokenizer)
        pieces = [decoder.take(token) for token in ids]
        assert "".join([*pieces, decoder.end()]) == tiny_tokenizer.decode(ids, skip_special_tokens=True)


def test_special_tokens_have_no_text(tiny_tokenizer: CodeShellTokenizer) -> None:
    ids = [*tiny_tokenizer.encode_text("a"), tiny_tokenizer.eos_token_id, *tiny_tokenizer.encode_text("b")]

    assert "".join(piece.text for piece in feed(tiny_tokenizer, ids, [])) == "ab"


def test_a_stop_and_what_may_begin_one_are_held_back(tiny_tokenizer: CodeShellTokenizer) -> None:
    encode = tiny_tokenizer.encode_text

    pieces = feed(tiny_tokenizer, encode("x = 1|<e|<end>|## human:"), ["\n\n", "|<end>|"])
    assert "".join(piece.text for piece in pieces) == "x = 1|<e"
    assert (pieces[-1].end, pieces[-1].stop) == ("stop", "|<end>|")
    shown = [token.text for piece in pieces for token in piece.tokens]
    assert "".join(shown) == "x = 1|<e", "only tokens of the text are reported"

    for text, shown_text in (("x |\n", "x |\n"), ("x |", "x |"), ("x = 1|<en", "x = 1"), ("x = 1\n", "x = 1\n")):
        whole = feed(tiny_tokenizer, encode(text), ["|<end>|", "\n\n"])
        assert "".join(piece.text for piece in whole) == shown_text, "an end of turn that was cut off is no text"
        assert whole[-1].end == "length"
