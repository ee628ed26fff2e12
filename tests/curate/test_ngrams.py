"""The n-gram model: probabilities sum to one, equal a plain Kneser-Ney, and kenlm agrees where it is installed."""

import gzip
import importlib.util
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.curate.ngrams import (
    NgramModel,
    _discount,
    load_scorer,
    read_arpa,
    score,
    score_numbers,
    train,
    write_arpa,
)
from codeshell_hf.curate.words import split_code
from codeshell_hf.errors import DataError

ROOT = Path(__file__).parents[2]


SAMPLE = [split_code(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "src" / "codeshell_hf").glob("*.py"))]


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return train(SAMPLE, order=4, min_word_count=2)


def predict(model: NgramModel, context: list[str]) -> np.ndarray:
    """Probabilities of every word but <s> after a context."""
    known = {word: number for number, word in enumerate(model.words)}
    start = [1, *(known.get(word, 0) for word in context)]
    rows = np.array([[*start, word] for word in range(len(model.words)) if word != 1])
    return 10 ** score_numbers(model, rows.ravel()).reshape(rows.shape)[:, -1]


@pytest.mark.parametrize("context", [[], ["def"], ["self", "."], ["never", "seen"], ["import", "torch", "¶"]])
def test_probabilities_after_any_context_sum_to_one(model: NgramModel, context: list[str]) -> None:
    assert predict(model, context).sum() == pytest.approx(1, abs=1e-5)


def plain_kneser_ney(documents: list[list[str]]) -> dict[tuple[str, str], float]:
    """Interpolated modified Kneser-Ney of order 2, by the book."""
    pairs = Counter(pair for d in documents for pair in zip(["<s>", *d], [*d, "</s>"], strict=True))
    follows = Counter(word for _, word in pairs)
    vocabulary = [*sorted({word for pair in pairs for word in pair} - {"<s>"}), "<unk>"]

    def discounts(counts: list[int]) -> list[float]:
        many = [sum(count == n for count in counts) for n in range(1, 5)]
        if all(many[:3]):
            share = many[0] / (many[0] + 2 * many[1])
            found = [n - (n + 1) * share * many[n] / many[n - 1] for n in range(1, 4)]
            if all(0 <= value <= n for n, value in enumerate(found, 1)):
                return found
        return [0.5, 1.0, 1.5]

    def take(count: int, found: list[float]) -> float:
        return min(found[min(count, 3) - 1], count) if count else 0.0

    low, high = discounts(list(follows.values())), discounts(list(pairs.values()))
    total = sum(follows.values())
    left = sum(take(count, low) for count in follows.values()) / total
    first = {w: (follows[w] - take(follows[w], low)) / total + left / len(vocabulary) for w in vocabulary}
    by_context: dict[str, dict[str, int]] = defaultdict(dict)
    for (before, word), count in pairs.items():
        by_context[before][word] = count
    result = {}
    for before, counts in by_context.items():
        total = sum(counts.values())
        left = sum(take(count, high) for count in counts.values()) / total
        for word in vocabulary:
            count = counts.get(word, 0)
            result[before, word] = (count - take(count, high)) / total + left * first[word]
    return result


def test_order_two_equals_a_plain_kneser_ney() -> None:
    rng = random.Random(3)
    documents = [[rng.choice("aaabbbccdde") for _ in range(rng.randrange(1, 12))] for _ in range(60)]

    model = train(documents, order=2)

    expected = plain_kneser_ney(documents)
    known = {word: number for number, word in enumerate(model.words)}
    for (before, word), value in expected.items():
        ids = np.array([1, known[before], known[word]] if before != "<s>" else [1, known[word]])
        assert 10 ** score_numbers(model, ids)[-1] == pytest.approx(value, rel=1e-4), (before, word)


def test_a_document_is_scored_word_by_word(model: NgramModel) -> None:
    words = split_code("def load(path):\n    return path.read_text()\n")

    (total,), (count,) = score(model, [words])

    known = {word: number for number, word in enumerate(model.words)}
    expected = 0.0
    for place in range(len(words) + 1):
        ids = [1, *(known.get(word, 0) for word in [*words, "</s>"][: place + 1])]
        expected += score_numbers(model, np.array(ids))[-1]
    assert count == len(words) + 1
    assert total == pytest.approx(expected, abs=1e-6)


def test_familiar_code_is_likelier_than_its_words_in_disorder(model: NgramModel) -> None:
    words = SAMPLE[0][:300]
    shuffled = random.Random(0).sample(words, len(words))

    (first, second), counts = score(model, [words, shuffled])

    assert 10 ** (-first / counts[0]) < 0.3 * 10 ** (-second / counts[1])


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz"])
def test_arpa_comes_back_as_it_was_written(model: NgramModel, name: str, tmp_path: Path) -> None:
    write_arpa(model, tmp_path / name)

    again = read_arpa(tmp_path / name)

    assert score(again, SAMPLE)[0] == pytest.approx(score(model, SAMPLE)[0], rel=1e-6)
    text = gzip.decompress((tmp_path / name).read_bytes()) if name.endswith("gz") else (tmp_path / name).read_bytes()
    assert text.startswith(b"\\data\\\nngram 1=")
    assert text.endswith(b"\\end\\\n")


def test_a_hand_written_model_is_scored_by_hand(tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_text(
        "\\data\\\nngram 1=5\nngram 2=2\n\n"
        "\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.5\n-0.7\t</s>\n-0.4\ta\t-0.2\n-0.6\tb\n\n"
        "\\2-grams:\n-0.1\t<s> a\n-0.3\ta b\n\n\\end\\\n"
    )

    logs, counts = load_scorer(tmp_path / "m.arpa", prefers_kenlm=False)([["a", "b"], ["b", "zzz"], ["a", "a"]])

    assert counts.tolist() == [3, 3, 3]
    assert logs.tolist() == pytest.approx([-0.1 - 0.3 - 0.7, -0.5 - 0.6 - 1.0 - 0.7, -0.1 - 0.2 - 0.4 - 0.2 - 0.7])


@pytest.mark.skipif(importlib.util.find_spec("kenlm") is None, reason="kenlm is not installed")
def test_kenlm_agrees_for_each_word_within_a_ten_thousandth(model: NgramModel, tmp_path: Path) -> None:
    write_arpa(model, tmp_path / "m.arpa")
    unseen = [split_code("zz = yy @ xx\n"), []]

    ours, counts = load_scorer(tmp_path / "m.arpa", prefers_kenlm=False)([*SAMPLE, *unseen])
    theirs, same = load_scorer(tmp_path / "m.arpa")([*SAMPLE, *unseen])

    assert counts.tolist() == same.tolist()
    assert np.abs((ours - theirs) / counts).max() < 1e-4


def test_broken_models_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "no.arpa").write_text("nothing of the kind")
    (tmp_path / "cut.arpa").write_text("\\data\\\nngram 1=5\n\n\\1-grams:\n-1.0\t<unk>\n")
    for name in ("no.arpa", "cut.arpa", "none.arpa"):
        with pytest.raises(DataError, match=r"cannot be read as ARPA"):
            read_arpa(tmp_path / name)
    with pytest.raises(DataError, match=r"there are no words to train"):
        train([], order=3)


def test_discounts_are_those_of_chen_and_goodman() -> None:
    # Of 100 n-grams seen once, 40 twice, 20 three and 10 four times: Y = 100 / (100 + 2 * 40), and D(n) is
    # n - (n + 1) * Y * (how many n + 1 times) / (how many n times).
    counts = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 10, 5])
    y = 100 / 180
    once, twice, more = 1 - 2 * y * 40 / 100, 2 - 3 * y * 20 / 40, 3 - 4 * y * 10 / 20

    discounts = _discount(counts)

    assert discounts.tolist() == pytest.approx([once] * 100 + [twice] * 40 + [more] * 35)
    assert _discount(np.array([1, 1, 2, 5])).tolist() == [0.5, 0.5, 1.0, 1.5], "too few for an estimate"
