"""Finds duplicates: exact ones by MD5, near ones by MinHash, verified by their Jaccard similarity.

Of each cluster the best document stays. Shuffles carry keys, digests and hashed shingles, never text.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataFrame, DataType, Window, col
from daft.functions import row_number
from numpy.typing import NDArray

from .daft_engine import map_tasks
from .settings import NearDuplicates
from .shingles import find_sets, measure_jaccard, shingle

# In buckets of up to this many documents every pair is compared; in larger ones each document with the first one and
# its neighbours, so that the work grows linearly.
WHOLE_BUCKET = 24
_NEIGHBOURS = 3
# Bands in a group; groups are processed in turn, to bound memory.
_BANDS_AT_ONCE = 3_000_000
PAIR_ROWS = 1_000_000
# Fewer candidates are compared in this process, which is faster than starting workers.
_SMALL = 20_000
_RANK = ("preference", "stars", "id")
_DESCENDING = [True, True, False]
NO_DUPLICATES = pa.table({"key": pa.array([], pa.int64()), "cluster": pa.array([], pa.int64())})
_PAIR = DataType.struct({"a": DataType.int64(), "b": DataType.int64()})


class KeyPair(TypedDict):
    """Keys of two documents, `a` < `b`."""

    a: int
    b: int


class Near(TypedDict):
    """Arguments of all tasks that compare candidates."""

    folder: str
    min_jaccard: float


class PartFile(TypedDict):
    """A part's number and its file of measured documents."""

    part: int
    path: str


def find_exact_duplicates(documents: DataFrame) -> pa.Table:
    """Finds duplicates in each group of equal documents; the best by preference, then stars, then id, stays.

    Args:
        documents: Columns `key`, `digest`, `preference`, `stars` and `id`.

    Returns:
        Columns `key` and `cluster`, the key of the document that stays.
    """
    groups = documents.groupby("digest").agg(col("key").count().alias("copies"))
    repeated = groups.where(col("copies") > daft.lit(1)).select("digest")
    return _drop_all_but_best(documents.join(repeated, on="digest"), "digest").to_arrow()


def _drop_all_but_best(documents: DataFrame, group: str) -> DataFrame:
    """All but the best of each group, with the key of the best as `cluster`."""
    ranked = documents.with_column("stars", col("stars").fill_null(-1)).with_column(
        "place", row_number().over(Window().partition_by(group).order_by(*_RANK, desc=_DESCENDING))
    )
    ranked = ranked.select("key", group, "place").collect()
    best = ranked.where(col("place") == daft.lit(1)).select(group, col("key").alias("cluster"))
    return ranked.where(col("place") > daft.lit(1)).join(best, on=group).select("key", "cluster")


def find_near_duplicates(
    documents: DataFrame, measured: Sequence[Path], folder: Path, near: NearDuplicates
) -> tuple[pa.Table, dict[str, int]]:
    """Finds near duplicates.

    Args:
        documents: Columns `key`, `bands`, `shingles`, `preference`, `stars` and `id`, without exact duplicates.
        measured: The parts' files, in order, with the texts to compare.
        folder: For temporary files.

    Returns:
        Columns `key` and `cluster` of all but the best of each cluster; counts of candidate pairs, near pairs and
        clusters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = find_candidates(documents, near)
    counts = {"candidate_pairs": pairs.num_rows, "near_pairs": 0, "clusters": 0}
    if not pairs.num_rows:
        return NO_DUPLICATES, counts
    edges = verify(pairs, measured, folder, min_jaccard=near.min_jaccard)
    counts["near_pairs"] = edges.num_rows
    if not edges.num_rows:
        return NO_DUPLICATES, counts
    labels = connect(daft.from_arrow(edges.select(["a", "b"])))
    counts["clusters"] = labels.select("label").distinct().count_rows()
    members = documents.select("key", *_RANK).join(labels, on="key")
    return _drop_all_but_best(members, "label").to_arrow(), counts


def find_candidates(documents: DataFrame, near: NearDuplicates) -> pa.Table:
    """Finds the pairs that share a MinHash band and are similar enough in size.

    Args:
        documents: Columns `key`, `bands` and `shingles`.

    Returns:
        Columns `a` < `b`, int64, each pair once, in order.
    """
    signed = documents.where(col("bands").not_null()).select("key", "bands", "shingles").collect()
    at_once = max(1, min(near.bands, _BANDS_AT_ONCE // max(signed.count_rows(), 1)))

    def pair_all(keys: daft.Series, sizes: daft.Series) -> list[list[KeyPair]]:
        buckets = zip(keys.to_pylist(), sizes.to_pylist(), strict=True)
        return [pair_bucket(*bucket, min_jaccard=near.min_jaccard) for bucket in buckets]

    pair = daft.func.batch(return_dtype=DataType.list(_PAIR))(pair_all)
    tables = []
    for first in range(0, near.bands, at_once):
        bands = daft.functions.slice(col("bands"), first, min(first + at_once, near.bands))
        exploded = signed.select("key", "shingles", bands.alias("band")).explode("band")
        buckets = exploded.groupby("band").agg(
            col("key").list_agg().alias("keys"),
            col("shingles").list_agg().alias("sizes"),
            col("key").count().alias("n"),
        )
        shared = buckets.where(col("n") > daft.lit(1))
        pairs = shared.select(pair(col("keys"), col("sizes")).alias("pair")).explode("pair")
        pairs = pairs.where(col("pair").not_null())
        tables.append(
            pairs.select(col("pair").get("a").alias("a"), col("pair").get("b").alias("b")).distinct().to_arrow()
        )
    found = pa.concat_tables(tables)
    return found.group_by(["a", "b"]).aggregate([]).sort_by([("a", "ascending"), ("b", "ascending")])


def pair_bucket(keys: list[int], sizes: list[int], *, min_jaccard: float) -> list[KeyPair]:
    """Pairs the documents of a bucket, which share a band.

    Args:
        sizes: Shingles of each document.
        min_jaccard: Documents are not near if one has less than this share of the other's number of shingles.
    """
    # Sorted by size, so that neighbours are similar and the order of input does not matter.
    members = sorted(zip(sizes, keys, strict=True))
    pairs: list[KeyPair] = []
    for place, (size, key) in enumerate(members):
        others = members[place + 1 :] if len(members) <= WHOLE_BUCKET else members[place + 1 : place + 1 + _NEIGHBOURS]
        if place and len(members) > WHOLE_BUCKET:
            others = [*others, members[0]]
        for other_size, other in others:
            # Counts include repetitions, so sizes may differ more than those of the sets.
            if min(size, other_size) >= 0.5 * min_jaccard * max(size, other_size):
                pairs.append({"a": min(key, other), "b": max(key, other)})
    return pairs


def verify(pairs: pa.Table, measured: Sequence[Path], folder: Path, *, min_jaccard: float) -> pa.Table:
    """Keeps the pairs `a`, `b` whose sets of shingles are similar enough, with their `jaccard`."""
    keys = np.unique(np.concatenate([pairs["a"].to_numpy(), pairs["b"].to_numpy()]))
    parts = np.unique(keys >> 32).tolist()
    np.save(folder / "candidates.npy", keys)
    shared = Near(folder=str(folder), min_jaccard=min_jaccard)
    tasks = [PartFile(part=part, path=str(measured[part])) for part in parts]
    for _ in map_tasks(write_sets, tasks, shared, is_small=len(keys) < _SMALL):
        pass
    pq.write_table(pairs, folder / "pairs.parquet", row_group_size=PAIR_ROWS)
    groups = pq.read_metadata(folder / "pairs.parquet").num_row_groups
    for _ in map_tasks(compare_pairs, list(range(groups)), shared):
        pass
    return pa.concat_tables([pq.read_table(folder / f"edges-{group:05d}.parquet") for group in range(groups)])


def write_sets(task: PartFile, shared: Near) -> None:
    """Writes the sets of shingles of a part's candidates as a flat array with random access."""
    folder, part = Path(shared["folder"]), task["part"]
    wanted = np.load(folder / "candidates.npy", mmap_mode="r")
    wanted = wanted[np.searchsorted(wanted, part << 32) : np.searchsorted(wanted, (part + 1) << 32)]
    sizes: list[int] = []
    with (folder / f"sets-{part:05d}.u32").open("wb") as out:
        for batch in pq.ParquetFile(task["path"]).iter_batches(1024, columns=["key", "text"]):
            chosen = batch.filter(pc.is_in(batch["key"], pa.array(wanted)))
            for members in find_sets(shingle([text.encode() for text in chosen["text"].to_pylist()])):
                sizes.append(len(members))
                out.write(members.tobytes())
    # All candidates are in the part, ordered by key.
    np.save(folder / f"places-{part:05d}.npy", np.concatenate([[0], np.cumsum(sizes)]))


class _Sets:
    """Sets of shingles of all parts, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys = np.load(folder / "candidates.npy", mmap_mode="r")
        self._parts: dict[int, tuple[NDArray[np.int64], NDArray[np.uint32], int]] = {}

    def read(self, key: int) -> NDArray[np.uint32]:
        part = key >> 32
        if part not in self._parts:
            path = self._folder / f"sets-{part:05d}.u32"
            data = np.memmap(path, np.uint32, "r") if path.stat().st_size else np.empty(0, np.uint32)
            first = int(np.searchsorted(self._keys, part << 32))
            self._parts[part] = (np.load(self._folder / f"places-{part:05d}.npy"), data, first)
        places, data, first = self._parts[part]
        row = int(np.searchsorted(self._keys, key)) - first
        return data[places[row] : places[row + 1]]


def compare_pairs(group: int, shared: Near) -> None:
    """Compares the pairs of a row group and writes those that are near."""
    folder = Path(shared["folder"])
    sets = _Sets(folder)
    pairs = pq.ParquetFile(folder / "pairs.parquet").read_row_group(group)
    near: dict[str, list[float]] = defaultdict(list)
    last, members = -1, np.empty(0, np.uint32)
    for a, b in zip(pairs["a"].to_pylist(), pairs["b"].to_pylist(), strict=True):
        if a != last:
            last, members = a, np.array(sets.read(a))
        other = sets.read(b)
        if min(len(members), len(other)) < shared["min_jaccard"] * max(len(members), len(other)):
            continue
        jaccard = measure_jaccard(members, other)
        if jaccard >= shared["min_jaccard"]:
            near["a"].append(a)
            near["b"].append(b)
            near["jaccard"].append(jaccard)
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("jaccard", pa.float64())])
    temporary = folder / f"edges-{group:05d}.tmp"
    pq.write_table(pa.table({name: near[name] for name in schema.names}, schema=schema), temporary)
    temporary.replace(folder / f"edges-{group:05d}.parquet")


def connect(edges: DataFrame) -> DataFrame:
    """Finds connected components by propagating the smallest label, with pointer jumping.

    Args:
        edges: Columns `a` and `b`.

    Returns:
        Columns `key` and `label`, the smallest key of its component, for every key with an edge.
    """
    both = edges.select("a", "b").concat(edges.select(col("b").alias("a"), col("a").alias("b"))).collect()
    labels = both.groupby("a").agg(col("b").min().alias("least"))
    labels = labels.select(col("a").alias("key"), _lesser("a", "least").alias("label")).collect()
    while True:
        seen = both.join(labels, left_on="b", right_on="key").groupby("a").agg(col("label").min().alias("least"))
        passed = labels.join(seen, left_on="key", right_on="a").select(
            "key", "label", _lesser("label", "least").alias("next")
        )
        # Pointer jumping: a label is a key too, so its own label applies to every key with it.
        targets = labels.select(col("key").alias("target"), col("label").alias("far"))
        jumped = (
            passed.join(targets, left_on="next", right_on="target")
            .select("key", "label", _lesser("next", "far").alias("next"))
            .collect()
        )
        labels = jumped.select("key", col("next").alias("label")).collect()
        if not jumped.where(col("label") != col("next")).count_rows():
            return labels


def _lesser(first: str, second: str) -> daft.Expression:
    return daft.functions.when(col(first) < col(second), col(first)).otherwise(col(second))


def find_repeated_pieces(documents: DataFrame, *, min_documents: int) -> NDArray[np.int64]:
    """The sorted hashes, int64, of the lines or paragraphs that many documents share.

    Args:
        documents: Columns `key` and `pieces`.
    """
    pieces = documents.where(col("pieces").not_null()).select(col("pieces").alias("piece")).explode("piece")
    counts = pieces.where(col("piece").not_null()).groupby("piece").agg(col("piece").count().alias("n"))
    repeated: Iterable[int] = counts.where(col("n") >= min_documents).select("piece").to_pydict()["piece"]
    return np.array(sorted(repeated), np.int64)
