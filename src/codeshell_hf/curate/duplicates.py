"""Finds duplicates: exact ones by MD5, near ones by MinHash, verified by their Jaccard similarity.

Of each cluster the best document stays, which every other one is near to. Shuffles carry keys, digests and hashed
shingles, never text.
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

# In buckets of up to this many documents every pair is compared; in larger ones each document with the best one and
# its neighbours, so that the work grows linearly. Those that stay are compared again, until none is near another.
WHOLE_BUCKET = 24
_NEIGHBOURS = 3
# Bands in a group; groups are processed in turn, to bound memory.
_BANDS_AT_ONCE = 3_000_000
PAIR_ROWS = 1_000_000
# Fewer candidates are compared in this process, which is faster than starting workers.
_SMALL = 20_000
_MAX_ROUNDS = 20
RANK = ("standing", "stars", "id")
_DESCENDING = [True, True, False]
_PAIRS = pa.schema([("a", pa.int64()), ("b", pa.int64())])
_EDGES = _PAIRS.append(pa.field("jaccard", pa.float64()))
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


def find_exact_duplicates(documents: DataFrame, *, same: str = "digest") -> pa.Table:
    """Finds duplicates in each group of equal documents; the best by standing, then stars, then id, stays.

    Args:
        documents: Columns `key`, `standing`, `stars`, `id` and that of `same`, which equal documents share.

    Returns:
        Columns `key` and `cluster`, the key of the document that stays.
    """
    groups = documents.groupby(same).agg(col("key").count().alias("copies"))
    repeated = groups.where(col("copies") > daft.lit(1)).select(same)
    ranked = documents.join(repeated, on=same).with_column("stars", col("stars").fill_null(-1))
    ranked = ranked.with_column(
        "place", row_number().over(Window().partition_by(same).order_by(*RANK, desc=_DESCENDING))
    )
    ranked = ranked.select("key", same, "place").collect()
    best = ranked.where(col("place") == daft.lit(1)).select(same, col("key").alias("cluster"))
    return ranked.where(col("place") > daft.lit(1)).join(best, on=same).select("key", "cluster").to_arrow()


class NearGraph:
    """Pairs of near documents, and the documents that represent them.

    A document is dropped if it is near to a better one that stays, so that nothing disappears by way of others: of a
    chain of revisions as many stay as are needed for each to be near to one of them.

    Args:
        documents: Columns `key`, `bands`, `shingles`, `standing`, `stars`, `id`.
        measured: The parts' files, in order, with the texts to compare.
        folder: For temporary files.
    """

    def __init__(self, documents: DataFrame, measured: Sequence[Path], folder: Path, near: NearDuplicates) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.counts = {"candidate_pairs": 0, "near_pairs": 0, "clusters": 0}
        self._documents = documents
        self._measured = measured
        self._folder = folder
        self._near = near
        self._compared = _PAIRS.empty_table()
        self._edges = _EDGES.empty_table()
        self._crowd: NDArray[np.int64] | None = None
        self._rounds = 0
        self._keys = np.empty(0, np.int64)
        self._ranks = np.empty(0, np.int64)

    def search(self, staying: NDArray[np.int64]) -> bool:
        """Compares candidates among the documents that stay; whether any two are near that were not compared before.

        After the first time only those are searched that were in a bucket too large for every pair.

        Args:
            staying: Their keys, sorted.
        """
        documents = self._documents
        if self._crowd is not None:
            crowd = np.intersect1d(self._crowd, staying)
            if len(crowd) < 2 or self._rounds >= _MAX_ROUNDS:
                return False
            documents = documents.join(daft.from_pydict({"key": pa.array(crowd)}), on="key")
        self._rounds += 1
        pairs, self._crowd = find_candidates(documents, self._near)
        if self._rounds > 1:
            pairs = pairs.join(self._compared, ["a", "b"], join_type="left anti")
        if not len(pairs):
            return False
        if len(self._crowd):
            self._compared = pa.concat_tables([self._compared, pairs])
        found = verify(pairs, self._measured, self._folder, min_jaccard=self._near.min_jaccard)
        self._edges = pa.concat_tables([self._edges, found])
        self.counts["candidate_pairs"] += len(pairs)
        self.counts["near_pairs"] = len(self._edges)
        self._rank()
        return len(found) > 0

    def _rank(self) -> None:
        """Ranks the documents that are near another one, the best first."""
        self._keys = np.unique(np.concatenate([self._edges["a"].to_numpy(), self._edges["b"].to_numpy()]))
        if not len(self._keys):
            return
        near = daft.from_pydict({"key": pa.array(self._keys)})
        known = self._documents.select("key", *RANK).join(near, on="key").to_arrow()
        known = known.set_column(known.column_names.index("stars"), "stars", pc.fill_null(known["stars"], -1))
        directions = ["descending" if is_falling else "ascending" for is_falling in _DESCENDING]
        order = pc.sort_indices(known, sort_keys=[*zip(RANK, directions, strict=True)]).to_numpy()
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        self._ranks = ranks[np.argsort(known["key"].to_numpy())]

    def elect(self, failed: NDArray[np.int64]) -> pa.Table:
        """Chooses the documents that stay, in the order of rank: each that is near to none that stays already.

        Args:
            failed: Keys of documents that are dropped for other reasons, and represent none.

        Returns:
            Columns `key`, `cluster` and `jaccard` of those that are dropped, with the nearest document that stays.
        """
        a, b = (np.searchsorted(self._keys, self._edges[name].to_numpy()) for name in ("a", "b"))
        jaccards = self._edges["jaccard"].to_numpy()
        is_failed = np.isin(self._keys, failed)
        alive = ~is_failed[a] & ~is_failed[b]
        a, b, jaccards = a[alive], b[alive], jaccards[alive]
        is_first = self._ranks[a] < self._ranks[b]
        better, worse = np.where(is_first, a, b), np.where(is_first, b, a)
        stays = choose_representatives(better, worse, len(self._keys))
        held = stays[better] & ~stays[worse]
        better, worse, jaccards = better[held], worse[held], jaccards[held]
        order = np.lexsort((self._ranks[better], -jaccards, worse))
        first = order[np.unique(worse[order], return_index=True)[1]]
        self.counts["clusters"] = len(np.unique(better[first]))
        columns = (self._keys[worse[first]], self._keys[better[first]], jaccards[first])
        return pa.table(dict(zip(("key", "cluster", "jaccard"), columns, strict=True)))


def choose_representatives(better: NDArray[np.int64], worse: NDArray[np.int64], documents: int) -> NDArray[np.bool_]:
    """Which documents stay if each stays, the best first, that is near to no better one that stays.

    Args:
        better: The better document of each near pair, int64, shape (E,).
        worse: The other one, likewise.
        documents: Their number, D.

    Returns:
        Bool, shape (D,).

    >>> choose_representatives(np.array([0, 1, 2]), np.array([1, 2, 3]), 4).tolist()  # a chain
    [True, False, True, False]
    """
    is_open = np.ones(documents, bool)
    stays = np.zeros(documents, bool)
    while len(better):
        is_behind = np.zeros(documents, bool)
        is_behind[worse] = True
        chosen = is_open & ~is_behind
        stays |= chosen
        is_open[worse[chosen[better]]] = False
        is_open &= ~chosen
        left = is_open[better] & is_open[worse]
        better, worse = better[left], worse[left]
    return stays | is_open


def find_near_duplicates(
    documents: DataFrame, measured: Sequence[Path], folder: Path, near: NearDuplicates
) -> tuple[pa.Table, dict[str, int]]:
    """Finds near duplicates.

    Args:
        documents: Columns `key`, `bands`, `shingles`, `standing`, `stars` and `id`, without exact duplicates.
        measured: The parts' files, in order, with the texts to compare.
        folder: For temporary files.

    Returns:
        Columns `key`, `cluster` and `jaccard` of the documents that do not stay, with those that represent them; counts
        of candidate pairs, near pairs and clusters.
    """
    graph = NearGraph(documents, measured, folder, near)
    failed = np.empty(0, np.int64)
    keys = np.sort(documents.select("key").to_arrow()["key"].to_numpy())
    graph.search(keys)
    while True:
        found = graph.elect(failed)
        if not graph.search(np.setdiff1d(keys, found["key"].to_numpy())):
            return found, graph.counts


def find_candidates(documents: DataFrame, near: NearDuplicates) -> tuple[pa.Table, NDArray[np.int64]]:
    """Finds the pairs that share a MinHash band and are similar enough in size.

    Args:
        documents: Columns `key`, `bands`, `shingles` and `standing`.

    Returns:
        Columns `a` < `b`, int64, each pair once, in order; and the keys of documents in buckets too large for every
        pair, sorted.
    """
    signed = documents.where(col("bands").not_null()).select("key", "bands", "shingles", "standing").collect()
    at_once = max(1, min(near.bands, _BANDS_AT_ONCE // max(signed.count_rows(), 1)))

    def pair_all(keys: daft.Series, sizes: daft.Series, standings: daft.Series) -> list[list[KeyPair]]:
        buckets = zip(keys.to_pylist(), sizes.to_pylist(), standings.to_pylist(), strict=True)
        return [pair_bucket(*bucket, min_jaccard=near.min_jaccard) for bucket in buckets]

    pair = daft.func.batch(return_dtype=DataType.list(_PAIR))(pair_all)
    tables = []
    crowds = [np.empty(0, np.int64)]
    for first in range(0, near.bands, at_once):
        bands = daft.functions.slice(col("bands"), first, min(first + at_once, near.bands))
        exploded = signed.select("key", "shingles", "standing", bands.alias("band")).explode("band")
        buckets = exploded.groupby("band").agg(
            col("key").list_agg().alias("keys"),
            col("shingles").list_agg().alias("sizes"),
            col("standing").list_agg().alias("standings"),
            col("key").count().alias("n"),
        )
        shared = buckets.where(col("n") > daft.lit(1)).collect()
        pairs = shared.select(pair(col("keys"), col("sizes"), col("standings")).alias("pair")).explode("pair")
        pairs = pairs.where(col("pair").not_null())
        tables.append(
            pairs.select(col("pair").get("a").alias("a"), col("pair").get("b").alias("b")).distinct().to_arrow()
        )
        large = shared.where(col("n") > daft.lit(WHOLE_BUCKET)).select(col("keys").alias("key")).explode("key")
        crowds.append(large.distinct().to_arrow()["key"].to_numpy())
    found = pa.concat_tables(tables)
    found = found.group_by(["a", "b"]).aggregate([]).sort_by([("a", "ascending"), ("b", "ascending")])
    return found.cast(_PAIRS), np.unique(np.concatenate(crowds)).astype(np.int64)


def pair_bucket(keys: list[int], sizes: list[int], standings: list[float], *, min_jaccard: float) -> list[KeyPair]:
    """Pairs the documents of a bucket, which share a band.

    Args:
        sizes: Shingles of each document.
        standings: Scores of each document; in a large bucket all are paired with the best.
        min_jaccard: Documents are not near if one has less than this share of the other's number of shingles.
    """
    # Sorted by size, so that neighbours are similar and the order of input does not matter.
    members = sorted(zip(sizes, keys, standings, strict=True))
    is_whole = len(members) <= WHOLE_BUCKET
    best = max(members, key=lambda member: (member[2], -member[1]))
    pairs: list[KeyPair] = []
    for place, (size, key, _) in enumerate(members):
        others = members[place + 1 :] if is_whole else [*members[place + 1 : place + 1 + _NEIGHBOURS], best]
        for other_size, other, _ in others:
            # Counts include repetitions, so sizes may differ more than those of the sets.
            if other != key and min(size, other_size) >= 0.5 * min_jaccard * max(size, other_size):
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
            for members in find_sets(shingle(chosen["text"].cast(pa.large_binary()).to_pylist())):
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
    schema = _EDGES
    temporary = folder / f"edges-{group:05d}.tmp"
    pq.write_table(pa.table({name: near[name] for name in schema.names}, schema=schema), temporary)
    temporary.replace(folder / f"edges-{group:05d}.parquet")


def find_repeated_pieces(documents: DataFrame, *, min_documents: int) -> NDArray[np.int64]:
    """The sorted hashes, int64, of the lines or paragraphs that many documents share.

    Args:
        documents: Columns `key` and `pieces`.
    """
    pieces = documents.where(col("pieces").not_null()).select(col("pieces").alias("piece")).explode("piece")
    counts = pieces.where(col("piece").not_null()).groupby("piece").agg(col("piece").count().alias("n"))
    repeated: Iterable[int] = counts.where(col("n") >= min_documents).select("piece").to_pydict()["piece"]
    return np.array(sorted(repeated), np.int64)
