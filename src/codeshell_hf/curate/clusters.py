"""Clusters of duplicates by the document that stays: which duplicates which, and how many there are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .corpus import Corpus


def join_clusters(exact: pa.Table, near: pa.Table | None) -> pa.Table:
    """Joins exact and near duplicates; copies of a near duplicate belong to the document that represents it.

    Args:
        exact: Columns `key` and `cluster`, the document that stays.
        near: Likewise; `None` if near duplicates stay.

    Returns:
        Columns `key`, `cluster` and `kind`, "exact" or "near".
    """
    copies = exact.append_column("kind", pa.array(["exact"] * len(exact), pa.string()))
    if near is None:
        return copies
    both = pa.concat_tables([copies, near.append_column("kind", pa.array(["near"] * len(near), pa.string()))])
    keys, targets = near["key"].to_numpy(), near["cluster"].to_numpy()
    order = np.argsort(keys)
    named = both["cluster"].to_numpy()
    places = np.minimum(np.searchsorted(keys[order], named), max(len(keys) - 1, 0))
    if len(keys):
        is_near = keys[order][places] == named
        named = np.where(is_near, targets[order][places], named)
    return both.set_column(both.column_names.index("cluster"), "cluster", pa.array(named, pa.int64()))


def write_clusters(corpus: Corpus, clusters: pa.Table, sizes: Path, duplicates: Path) -> None:
    """Writes the size of each cluster by the key of the document that stays, and which document duplicates which.

    Args:
        sizes: NumPy file, int64, shape (C, 2): keys, sorted, and sizes with the document itself.
        duplicates: Parquet file with columns `id`, `cluster` and `kind`.
    """
    best, counts = np.unique(clusters["cluster"].to_numpy(), return_counts=True)
    np.save(sizes, np.stack([best, counts + 1], axis=1).astype(np.int64))
    wanted = np.unique(np.concatenate([clusters["key"].to_numpy(), best])).astype(np.int64)
    names = [name for table in corpus.take(wanted, ["id"]) for name in table["id"].to_pylist()]
    ids = dict(zip(wanted.tolist(), names, strict=True))
    table = pa.table(
        {
            "id": pa.array([ids[key] for key in clusters["key"].to_pylist()], pa.string()),
            "cluster": pa.array([ids[key] for key in clusters["cluster"].to_pylist()], pa.string()),
            "kind": clusters["kind"],
        }
    )
    pq.write_table(table.sort_by("id"), duplicates, compression="zstd")
