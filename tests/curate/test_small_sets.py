"""Near copies in memory, against all pairs."""

import random

from codeshell_hf.curate.settings import NearDuplicates
from codeshell_hf.curate.small_sets import find_near_copies

WORDS = [f"w{number}" for number in range(400)]


def measure(first: str, second: str) -> float:
    """The Jaccard similarity of sets of five consecutive words."""
    sets = []
    for text in (first, second):
        words = text.split()
        sets.append({tuple(words[place : place + 5]) for place in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_near_copies_are_those_of_all_pairs() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=60)) for _ in range(20)]
    for number in range(20):
        words = texts[number].split()
        words[rng.randrange(60)] = "changed"
        texts.append(" ".join(words))
    near = NearDuplicates(min_jaccard=0.7, bands=40, rows=3)

    found = find_near_copies(texts, near)

    kept: list[int] = []
    for place, text in enumerate(texts):
        hits = {other: value for other in kept if (value := measure(text, texts[other])) >= near.min_jaccard}
        copy = found[place]
        if hits:
            assert copy is not None
            assert hits[copy.place] == max(hits.values())
            assert abs(copy.jaccard - max(hits.values())) < 1e-9
        else:
            assert copy is None
            kept.append(place)
    assert len(kept) < 40


def test_what_is_near_a_text_that_went_alone_stays() -> None:
    """A chain: the second is near the first, the third near the second only."""
    words = [f"v{number}" for number in range(40)]
    second = [*words[6:], *(f"n{number}" for number in range(6))]
    third = [*second[6:], *(f"m{number}" for number in range(6))]
    texts = [" ".join(one) for one in (words, second, third)]
    near = NearDuplicates(min_jaccard=0.6, bands=60, rows=1)
    assert measure(texts[0], texts[1]) >= 0.6
    assert measure(texts[1], texts[2]) >= 0.6
    assert measure(texts[0], texts[2]) < 0.6

    found = find_near_copies(texts, near)

    assert [copy and copy.place for copy in found] == [None, 0, None]


def test_few_texts_and_empty_ones_are_taken() -> None:
    assert find_near_copies([], NearDuplicates()) == []
    assert find_near_copies(["", "", "写 一个 函数"], NearDuplicates()) == [None, None, None]
