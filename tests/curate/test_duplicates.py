"""Near duplicates are those that exact Jaccard names."""

import random
import sysconfig
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from codeshell_hf.curate.duplicates import (
    choose_representatives,
    find_exact_duplicates,
    find_near_duplicates,
    find_repeated_pieces,
)
from codeshell_hf.curate.settings import NearDuplicates
from codeshell_hf.curate.shingles import shingle, sign
from tests.curate.test_shingles import jaccard, plain_shingles


def make_table(texts: list[str], stars: list[int | None] | None = None) -> pa.Table:
    shingles = shingle([text.encode() for text in texts])
    signed = sign(shingles, bands=22, rows=5)
    counts = np.diff(shingles.offsets)
    return pa.table(
        {
            "key": pa.array(range(len(texts)), pa.int64()),
            "id": [f"{place:06d}" for place in range(len(texts))],
            "standing": pa.array([0.5] * len(texts), pa.float32()),
            "stars": pa.array(stars or [None] * len(texts), pa.int64()),
            "digest": [str(hash(text)) for text in texts],
            "bands": pa.array([signed[n] if counts[n] else None for n in range(len(texts))], pa.list_(pa.uint64())),
            "shingles": counts,
            "text": pa.array(texts, pa.large_string()),
        }
    )


def find(texts: list[str], folder: Path, stars: list[int | None] | None = None) -> dict[int, int]:
    path = folder / "measured.parquet"
    pq.write_table(make_table(texts, stars), path)
    documents = daft.read_parquet(str(path)).exclude("text")
    found, _ = find_near_duplicates(documents, [path], folder / "work", NearDuplicates())
    return dict(zip(found["key"].to_pylist(), found["cluster"].to_pylist(), strict=True))


def vary(text: str, rng: random.Random, share: float) -> str:
    words = text.split(" ")
    for _ in range(round(share * len(words))):
        words[rng.randrange(len(words))] = f"other_{rng.randrange(10**6)}"
    return " ".join(words)


def test_near_duplicates_of_real_code_agree_with_exact_jaccard(tmp_path: Path) -> None:
    """The standard library, and copies of it with a few or many words changed."""
    rng = random.Random(1)
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:50]
    texts = [path.read_text(encoding="utf-8", errors="ignore")[:6000] for path in files]
    for text in texts[:20]:
        texts += [vary(text, rng, share) for share in (0.005, 0.01, 0.02, 0.04, 0.07)]
    texts = list(dict.fromkeys(texts))
    sets = [plain_shingles(text) for text in texts]
    near = defaultdict(set)
    for a, b in combinations(range(len(texts)), 2):
        if (
            min(len(sets[a]), len(sets[b])) >= 0.7 * max(len(sets[a]), len(sets[b]))
            and jaccard(sets[a], sets[b]) >= 0.7
        ):
            near[a].add(b)
            near[b].add(a)

    dropped = find(texts, tmp_path)

    assert all(best in near[member] for member, best in dropped.items()), "each is near to the one that represents it"
    kept = set(range(len(texts))) - dropped.keys()
    assert set(dropped.values()) <= kept
    missed = sum(not near[place].isdisjoint(kept) for place in kept)
    removable = sum(len(members) - 1 for members in components(near))
    assert removable > 40
    assert missed <= 0.05 * removable
    assert len(dropped) >= 0.8 * removable


def components(near: dict[int, set[int]]) -> list[set[int]]:
    seen: set[int] = set()
    found = []
    for start in near:
        if start not in seen:
            group, front = {start}, [start]
            while front:
                front = [other for member in front for other in near[member] if other not in group]
                group.update(front)
            seen |= group
            found.append(group)
    return found


def test_of_a_chain_of_revisions_none_is_dropped_for_one_that_it_is_not_near_to(tmp_path: Path) -> None:
    """Sixty revisions, each of which changes a fortieth; the last has nothing of the first."""
    rng = random.Random(3)
    words = [f"name_{rng.randrange(10**6)}" for _ in range(400)]
    chain = []
    for revision in range(60):
        chain.append(" ".join(words))
        for place in range(10):
            words[(revision * 10 + place) % 400] = f"name_{rng.randrange(10**6)}"
    sets = [plain_shingles(text) for text in chain]

    dropped = find(chain, tmp_path)

    kept = sorted(set(range(60)) - dropped.keys())
    assert 5 < len(kept) < 20
    assert all(jaccard(sets[member], sets[best]) >= 0.7 for member, best in dropped.items())
    assert all(jaccard(sets[a], sets[b]) < 0.7 for a, b in combinations(kept, 2)), "what stays is not near"


def test_the_best_of_a_cluster_stays_by_stars_then_by_name(tmp_path: Path) -> None:
    text = " ".join(f"word{n}" for n in range(200))
    texts = [f"{text} end{n}" for n in range(4)]

    assert find(texts, tmp_path) == {1: 0, 2: 0, 3: 0}
    assert find(texts, tmp_path, [1, None, 7, 7]) == {0: 2, 1: 2, 3: 2}


def test_a_bucket_of_many_is_one_cluster_and_short_texts_are_compared_whole(tmp_path: Path) -> None:
    text = " ".join(f"word{n}" for n in range(300))
    many = [f"{text} end{n}" for n in range(90)]
    short = ["two words", "two, words!", "other words", ""]

    dropped = find([*many, *short], tmp_path)

    assert dropped == dict.fromkeys(range(1, 90), 0) | {91: 90}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]), max_size=60))
def test_representatives_are_those_of_a_plain_loop(edges: list[tuple[int, int]]) -> None:
    near = defaultdict(set)
    for a, b in edges:
        near[b].add(a)
    plain: set[int] = set()
    for place in range(31):
        if near[place].isdisjoint(plain):
            plain.add(place)

    pairs = np.array(edges, np.int64).reshape(-1, 2)
    stays = choose_representatives(pairs[:, 0], pairs[:, 1], 31)

    assert set(np.flatnonzero(stays).tolist()) == plain


def test_a_long_chain_is_decided_link_by_link() -> None:
    stays = choose_representatives(np.arange(500), np.arange(1, 501), 501)

    assert np.flatnonzero(stays).tolist() == [*range(0, 501, 2)]


def test_a_crowd_is_compared_until_none_of_those_that_stay_is_near(tmp_path: Path) -> None:
    """Two hundred variants of ten texts share bands with a common half, so that buckets are too large for all pairs."""
    rng = random.Random(5)
    half = " ".join(f"common_{n}" for n in range(300))
    texts = []
    for group in range(10):
        own = " ".join(f"own_{group}_{n}" for n in range(80))
        texts += [f"{half} {own} end{rng.randrange(10**6)}" for _ in range(20)]
    rng.shuffle(texts)
    sets = [plain_shingles(text) for text in texts]

    dropped = find(texts, tmp_path)

    kept = set(range(len(texts))) - dropped.keys()
    assert all(jaccard(sets[member], sets[best]) >= 0.7 for member, best in dropped.items())
    assert not any(jaccard(sets[a], sets[b]) >= 0.7 for a, b in combinations(sorted(kept), 2))


def test_of_equal_documents_the_best_stays() -> None:
    table = pa.table(
        {
            "key": [0, 1, 2, 3, 4],
            "digest": ["a", "a", "a", "b", "c"],
            "standing": [0.5, 0.5, 0.5, 0.1, 0.1],
            "stars": pa.array([None, 3, 3, 1, 1], pa.int64()),
            "id": ["z", "y", "x", "v", "u"],
        }
    )

    found = find_exact_duplicates(daft.from_arrow(table)).sort_by("key").to_pydict()

    assert found == {"key": [0, 1], "cluster": [2, 2]}


def test_pieces_of_enough_documents_are_repeated() -> None:
    pieces = [[1, 2], [1, 3], [1, 2], None, []]
    documents = daft.from_arrow(pa.table({"key": list(range(5)), "pieces": pa.array(pieces, pa.list_(pa.int64()))}))

    assert find_repeated_pieces(documents, min_documents=2).tolist() == [1, 2]
    assert find_repeated_pieces(documents, min_documents=3).tolist() == [1]
