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
    connect,
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
            "preference": pa.array([0.5] * len(texts), pa.float32()),
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
    truth = components(near)

    dropped = find(texts, tmp_path)

    cluster = {member: place for place, members in enumerate(truth) for member in members}
    removable = sum(len(members) - 1 for members in truth)
    right = sum(member in cluster and cluster[member] == cluster.get(best) for member, best in dropped.items())
    assert removable > 40
    assert right == len(dropped), "precision 1.0: every one that fell is near, by way of others, to the one that stays"
    assert right >= 0.95 * removable


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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]), min_size=1))
def test_connected_components_are_those_of_a_plain_search(edges: list[tuple[int, int]]) -> None:
    near = defaultdict(set)
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)

    labels = connect(daft.from_pydict({"a": [a for a, _ in edges], "b": [b for _, b in edges]})).to_pydict()

    expected = {member: min(group) for group in components(near) for member in group}
    assert dict(zip(labels["key"], labels["label"], strict=True)) == expected


def test_a_long_chain_is_one_component() -> None:
    labels = connect(daft.from_pydict({"a": list(range(500)), "b": list(range(1, 501))})).to_pydict()

    assert set(labels["label"]) == {0}
    assert len(labels["key"]) == 501


def test_of_equal_documents_the_best_stays() -> None:
    table = pa.table(
        {
            "key": [0, 1, 2, 3, 4],
            "digest": ["a", "a", "a", "b", "c"],
            "preference": [0.5, 0.5, 0.5, 0.1, 0.1],
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
