"""Shingles are those of a plain loop, and signatures agree as often as Jaccard says."""

import random
import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeshell_hf.curate.shingles import find_sets, measure_jaccard, shingle, sign

WORDS = re.compile(r"[A-Za-z0-9_]+|[^\x00-\x7f]")


def list_words(text: str) -> list[str]:
    """The words, each with the operators before it, within eight bytes of it or of the last word."""
    words, done = [], None
    for found in WORDS.finditer(text):
        gap = text[done : found.start()].encode() if done is not None else b""
        near = gap if len(gap) <= 16 else gap[:8] + gap[-8:]
        words.append("".join(sorted(chr(byte) for byte in near if byte in b"=+-<>*/%!&|^~")) + found[0])
        done = found.end()
    return words


def plain_shingles(text: str) -> set[tuple[str, ...]]:
    words = list_words(text)
    if 0 < len(words) < 5:
        return {tuple(words)}
    return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}


def jaccard(first: set, second: set) -> float:
    return len(first & second) / len(first | second) if first or second else 0.0


OPERATORS = """= + - * / % < > ! & | ^ ~ == != <= >= += -= *= /= %= && || << >> ** // -> <- |> ++ -- &= |= ^= ===
 !== **= //= <<= >>= <=> ~= <> !! --> ==> >>> <<< &&= *&"""
PARTS = st.sampled_from([*"ab_1 .\n(é中文🧑=-+", "          ", "\u200d", "longer_than_eight_letters ", "x" * 300 + " "])


TEXTS = st.lists(PARTS, max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_shingles_are_those_of_a_plain_loop(texts: list[str]) -> None:
    shingles = shingle([text.encode() for text in texts])
    sets = find_sets(shingles)

    plain = [plain_shingles(text) for text in texts]
    assert shingles.words.tolist() == [len(WORDS.findall(text)) for text in texts]
    assert [len(found) for found in sets] == list(map(len, plain))
    for a, b in combinations(range(len(texts)), 2):
        assert measure_jaccard(sets[a], sets[b]) == pytest.approx(jaccard(plain[a], plain[b]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("total = total + a * b - c", "total = total - a * b + c"),
        ("if a <= b and c == d: x -= 1", "if a < b and c != d: x += 1"),
        ("f(first +\n            second,\n  third)", "f(first *\n            second,\n  third)"),
        ("a && b || c & d | e", "a || b && c | d & e"),
    ],
)  # fmt: skip
def test_documents_that_differ_in_operators_differ(first: str, second: str) -> None:
    a, b = find_sets(shingle([first.encode(), second.encode()]))

    assert measure_jaccard(a, b) < 0.5
    assert measure_jaccard(a, b) == jaccard(plain_shingles(first), plain_shingles(second))


def test_layout_and_other_punctuation_do_not_count() -> None:
    texts = [b"x=f(a,b)+[c]\ny = 1", b"x = f( a, b )\n    + [\n  c]; y=1", b"-x = f(a, b) + [c]; y = 1  # --"]

    first, second, third = find_sets(shingle(texts))

    assert measure_jaccard(first, second) == measure_jaccard(first, third) == 1


def test_operators_of_languages_have_hashes_of_their_own() -> None:
    operators = OPERATORS.split()
    hashes = {
        int(find_sets(shingle([f"a b c d {operator} e".encode()]))[0][0]): "".join(sorted(operator))
        for operator in operators
    }

    assert len(hashes) == len({"".join(sorted(operator)) for operator in operators})


def test_long_words_that_differ_at_their_end_are_different() -> None:
    first, second, third = find_sets(shingle([b"a" * 999 + b"x", b"a" * 999 + b"y", b"a" * 999 + b"x"]))

    assert first.tolist() != second.tolist()
    assert first.tolist() == third.tolist()


def test_signatures_agree_as_often_as_jaccard_says() -> None:
    rng = random.Random(0)
    first = " ".join(f"w{rng.randrange(10**6)}" for _ in range(1000))
    second = " ".join(first.split()[:800] + [f"v{n}" for n in range(200)])
    expected = jaccard(plain_shingles(first), plain_shingles(second))

    signed = sign(shingle([first.encode(), second.encode()]), bands=64, rows=1)

    # Of 64 minima, about 42 agree at a Jaccard of 0.66; 25 and 58 are four standard deviations away.
    agreeing = int((signed[0] == signed[1]).sum())
    assert abs(agreeing / 64 - expected) < 4 * (expected * (1 - expected) / 64) ** 0.5
