"""One rule of splitting in three programs: tokenizers, tiktoken, llama.cpp."""

import json
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken

from codeshell_hf.text.pre_tokenizers import ACROSS_WORDS, SPLITS, STARCODER, make_pre_tokenizer, name_split
from tests.conftest import SHARED

CODE = "if (x2 != 10) {\n\t\treturn  \"It'S\";  // don't!\n\n\n    }\r\n"
BY_HAND = {
    STARCODER: [
        *("if", " (", "x", "2", " !=", " ", "1", "0", ")", " {", "\n\t", "\t", "return", " ", ' "', "It", "'", "S"),
        *('";', " ", " //", " don", "'t", "!", "\n\n\n   ", " }", "\r\n"),
    ],
    "gpt4": [
        *("if", " (", "x", "2", " !=", " ", "1", "0", ")", " {\n", "\t", "\treturn", " ", ' "', "It", "'S", '";', " "),
        *(" //", " don", "'t", "!\n\n\n", "   ", " }\r\n"),
    ],
    ACROSS_WORDS: [
        *("if (x", "2", " !=", " ", "1", "0", ") {\n\t\treturn", " ", " \"It'S", '";', " ", " //", " don't!\n\n\n"),
        *("   ", " }\r\n"),
    ],
}


def split_by_tokenizers(text: str, name: str) -> list[str]:
    return [text[first:last] for _, (first, last) in make_pre_tokenizer(name).pre_tokenize_str(text)]


def split_by_tiktoken(text: str, name: str, expected: list[str]) -> list[str]:
    """What tiktoken makes of a vocabulary of the expected pieces and of each with the next, in which two would join."""
    pieces = [piece.encode("utf-8") for piece in expected]
    entries = dict.fromkeys([*(bytes([byte]) for byte in range(256)), *pieces, *(a + b for a, b in pairwise(pieces))])
    ranks = {entry: rank for rank, entry in enumerate(entries)}
    encoding = tiktoken.Encoding(name, pat_str=SPLITS[name].pattern, mergeable_ranks=ranks, special_tokens={})
    return [encoding.decode_single_token_bytes(token).decode("utf-8") for token in encoding.encode_ordinary(text)]


@pytest.mark.parametrize("name", list(SPLITS))
def test_text_is_split_as_by_hand(name: str) -> None:
    assert split_by_tokenizers(CODE, name) == BY_HAND[name]
    assert split_by_tiktoken(CODE, name, BY_HAND[name]) == BY_HAND[name]


@pytest.mark.parametrize("name", list(SPLITS))
def test_two_engines_of_expressions_split_around_every_character_alike(name: str) -> None:
    """Of the letters without case, which are a hundred thousand, every 97th."""
    known = [
        chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    others = [letter for letter in known if unicodedata.category(letter) == "Lo"]
    characters = [letter for letter in known if unicodedata.category(letter) != "Lo"] + others[::97]
    for first in range(0, len(characters), 500):
        text = "".join(
            f"a{one} {one}{one}b'{one}1{one}\n{one}+{one}=  {one}" for one in characters[first : first + 500]
        )

        expected = split_by_tokenizers(text, name)

        assert "".join(expected) == text
        assert split_by_tiktoken(text, name, expected) == expected


def test_long_text_without_a_border_is_cut_alike_and_stops_no_engine() -> None:
    text = "word " * 200_000 + "word"

    pieces = split_by_tokenizers(text, ACROSS_WORDS)

    assert {len(piece) for piece in pieces[:-1]} == {512}
    assert split_by_tiktoken(text, ACROSS_WORDS, pieces) == pieces


def test_splits_are_known_by_their_steps() -> None:
    for name, split in SPLITS.items():
        assert name_split(json.loads(json.dumps(split.steps))) == name
    starcoder = json.loads(json.dumps(SPLITS[STARCODER].steps))
    starcoder["pretokenizers"][1]["trim_offsets"] = False
    assert name_split(starcoder) == STARCODER
    starcoder["pretokenizers"][1]["add_prefix_space"] = True
    assert name_split(starcoder) is None
    assert name_split(None) is None


@pytest.mark.shared
def test_the_released_tokenizer_has_starcoders_split() -> None:
    path = Path(SHARED) / "tokenizers" / "codeshell" / "tokenizer.json"
    if not path.exists():
        pytest.skip("the released tokenizer is not beside this checkout")

    assert name_split(json.loads(path.read_text())["pre_tokenizer"]) == STARCODER
