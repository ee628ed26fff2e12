"""What continues a base vocabulary: against BPE by hand, over several sources, with characters that must be there."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.tokenizer.texts import CHINESE, draw
from tokenizer import continuation
from tokenizer.characters import CHINESE_PUNCTUATION, LETTERS, is_chinese, list_level_one, spell, write_bytes
from tokenizer.continuation import choose_places
from tokenizer.merged import extend
from tokenizer.settings import Continuation
from tokenizer.vocabulary import Vocabulary, to_bytes
from tokenizer.words import count_words, drop_single, encode_words

BYTES_ALONE = Vocabulary(())


def continue_bytes(texts: Mapping[str, Sequence[str]], size: int, **settings: object) -> list[str]:
    """The new entries of whole characters, in order."""
    samples = {name: draw(one) for name, one in texts.items()}
    extended = extend(BYTES_ALONE, samples, Continuation.model_validate(settings), size=size)
    products = [to_bytes(left + right) for left, right in extended.merges]
    return [product.decode("utf-8", errors="ignore") for product in products if len(product) > 2]


def test_level_one_is_that_of_the_standard() -> None:
    characters = list_level_one()

    assert len(set(characters)) == 3755
    assert (characters[0], characters[94], characters[-1]) == ("啊", "薄", "座")
    assert set("爱狗疫的一") <= set(characters)
    assert not set("亍丌兀") & set(characters)  # the first of level 2


def test_places_that_overlap_merge_by_rank_and_from_left_to_right() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        tokens = rng.integers(0, 4, 40)
        pairs = [divmod(int(pair), 4) for pair in rng.permutation(16)[:6]]
        ranks = np.array([pairs.index(pair) if pair in pairs else -1 for pair in itertools.pairwise(tokens.tolist())])
        taken: set[int] = set()
        expected = []
        for rank in range(6):
            for place in np.flatnonzero(ranks == rank).tolist():
                if not {place, place + 1} & taken:
                    taken |= {place, place + 1}
                    expected.append((place, rank))

        places = np.flatnonzero(ranks >= 0)
        chosen = choose_places(places, ranks[places].astype(np.int32))

        assert sorted(zip(*map(np.ndarray.tolist, chosen), strict=True)) == sorted(expected)


def replace_pair(pieces: list[str], left: str, right: str) -> None:
    """Joins a pair in a word wherever it stands, from left to right."""
    place = 0
    while place < len(pieces) - 1:
        if pieces[place] == left and pieces[place + 1] == right:
            pieces[place : place + 2] = [left + right]
        place += 1


def count_pairs(cut: Mapping[str, list[str]], uses: Mapping[str, int]) -> Counter[tuple[str, str]]:
    """Counts pairs in words; of a run of one token, pairs that overlap are one."""
    counts: Counter[tuple[str, str]] = Counter()
    for word, pieces in cut.items():
        merged = 0
        for place, pair in enumerate(itertools.pairwise(pieces)):
            if place >= merged or pieces[place - 1] != pieces[place] or pieces[place] != pieces[place + 1]:
                counts[pair] += uses[word]
                merged = place + 2
    return counts


@pytest.mark.parametrize(
    ("step", "min_remaining", "bits"),
    [
        pytest.param(continuation.STEP, continuation.MIN_REMAINING, None, id="as-set"),
        pytest.param(continuation.STEP, continuation.MIN_REMAINING, 5, id="shared-buckets"),
        pytest.param(0.99, 1.0, None, id="fine-steps"),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_with_one_source_merges_are_those_of_bpe_within_a_step(
    seed: int, step: float, min_remaining: float, bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "STEP", step)
    monkeypatch.setattr(continuation, "MIN_REMAINING", min_remaining)
    if bits is not None:
        monkeypatch.setattr(continuation, "MIN_BITS", bits)
        monkeypatch.setattr(continuation, "MAX_BITS", bits)
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("天地人你我他"), rng.integers(2, 7))) for _ in range(800)]
    settings = Continuation(source_exponent=1.0, floor="chinese", new_merges="chinese")
    spelled = spell(BYTES_ALONE, [*list_level_one(), *CHINESE_PUNCTUATION])
    floor = len({left + right for merges in spelled.values() for left, right in merges})

    extended = extend(BYTES_ALONE, {"one": draw(words)}, settings, size=256 + floor + 60)

    uses = Counter(words)
    cut, cut_by_bpe = ({word: list(word) for word in uses} for _ in range(2))
    for left, right in extended.merges[-60:]:
        counts = count_pairs(cut, uses)
        wanted = (to_bytes(left).decode(), to_bytes(right).decode())
        # Below the best by a step, by what better pairs take, and by rounds in which a better one that overlaps waits.
        assert counts[wanted] >= 0.96 * step * min_remaining * max(counts.values()) - 1
        for pieces in cut.values():
            replace_pair(pieces, *wanted)
    for _ in range(60):
        counts = count_pairs(cut_by_bpe, uses)
        best = max(counts, key=lambda pair: counts[pair])
        for pieces in cut_by_bpe.values():
            replace_pair(pieces, *best)
    ours, bpe = (sum(len(pieces) * uses[word] for word, pieces in one.items()) for one in (cut, cut_by_bpe))
    assert ours <= 1.005 * bpe


def test_entries_that_many_sources_hold_come_first() -> None:
    filler = " ".join(map("".join, itertools.pairwise(list_level_one()[:60]))) + " "
    texts = {name: [filler * 2 + "天地 " * 15 + ("你我 " * 90 if name == "a" else "")] for name in "abcd"}

    broad = continue_bytes(texts, 310, source_exponent=0.3)
    frequent = continue_bytes(texts, 310, source_exponent=1.0)
    shared = continue_bytes(texts, 310, source_exponent=1.0, min_sources=2)

    assert next(entry for entry in broad if entry in ("天地", "你我")) == "天地"
    assert next(entry for entry in frequent if entry in ("天地", "你我")) == "你我"
    assert "你我" not in shared
    assert "天地" in shared


def test_entries_are_short_whole_and_without_typographical_spaces() -> None:
    texts = {"docs": [*CHINESE[:3], "在 这里 使用 函数 " * 500, "这是一个很长的句子" * 500]}

    entries = continue_bytes(texts, 1700, max_characters=4)

    assert max(map(len, entries)) == 4
    joined = [entry for entry in entries if entry[0].isspace() and any(map(is_chinese, entry))]
    assert [entry for entry in joined if entry.strip()] == []
    assert {"这里", "使用", "函数"} <= set(entries)


@pytest.mark.parametrize("new_merges", ["beyond-ascii", "chinese"])
def test_no_entry_is_ascii_alone_however_often_it_stands_in_a_word_with_chinese(new_merges: str) -> None:
    settings = Continuation.model_validate({"new_merges": new_merges})

    extended = extend(BYTES_ALONE, {"docs": draw(["函xyxyxyxy " * 500])}, settings, size=262)

    # Of the word's ten pairs, "xy" is the most frequent by far, and "函x" the only one that may merge.
    entries = [to_bytes(left + right) for left, right in extended.merges]
    assert "函x".encode() in entries
    assert [entry for entry in entries if entry.isascii()] == []


def test_the_floor_gives_every_character_an_entry_that_works() -> None:
    characters = [*list_level_one(), *CHINESE_PUNCTUATION]
    extended = extend(BYTES_ALONE, {"docs": draw(CHINESE[:2])}, Continuation(floor="chinese"), size=4600)
    backend = extended.make_backend()

    cut = [encoding.tokens for encoding in backend.encode_batch(characters)]

    assert cut == [[write_bytes(character)] for character in characters]


def test_words_are_counted_and_encoded_as_one_by_one() -> None:
    texts = ["使用 Python 3 的函数，plain ascii words。\n  缩进", "使用 函数，的函数", "ascii alone"]
    backend = BYTES_ALONE.make_backend()

    counts: Counter[str] = sum(count_words([(text, 1) for text in texts], held=2), Counter())
    weighted = Counter(dict(next(count_words([("函数", 40), ("使用，使用", 2), ("函数", 1)]))))
    words = encode_words(backend, counts)

    assert counts == {"使用": 2, " 的函数": 1, "的函数": 1, "，": 2, "。": 1, " 缩进": 1, " 函数": 1}
    assert weighted == {"函数": 41, "使用": 4, "，": 2}
    newline = backend.token_to_id("Ċ")
    expected = [newline]
    for word in counts:
        expected += [*backend.encode(word).ids, newline]
    assert words.tokens.tolist() == expected
    ends = np.flatnonzero(words.tokens == newline)
    assert [words.counts[end + 1] for end in ends[:-1]] == list(counts.values())
    assert words.counts[-1] == 0


def test_words_of_one_token_are_dropped() -> None:
    backend = Vocabulary(((LETTERS[0xC3], LETTERS[0xA9]),)).make_backend()
    words = drop_single(encode_words(backend, Counter({"é": 5, "éa": 2, "è": 1})))

    assert [backend.id_to_token(int(token)) for token in words.tokens] == ["Ċ", "Ã©", "a", "Ċ", "Ã", "¨", "Ċ"]
