"""Settles which documents stay of near duplicates, by syntax and standards of those that represent others."""

import json
import shutil
from dataclasses import dataclass

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataFrame, Expression, col
from numpy.typing import NDArray

from ..manifest import write_text
from .corpus import Corpus
from .duplicates import NO_DUPLICATES, RANK, NearGraph
from .progress import Progress
from .settings import NearDuplicates

_NO_KEYS = np.empty(0, np.int64)
_FAILED = pa.schema([("key", pa.int64()), ("reason", pa.string())])


@dataclass(frozen=True)
class Settled:
    """What is dropped.

    Args:
        near: Columns `key` and `cluster`: near duplicates, and the documents that represent them.
        failed: Columns `key` and `reason`: documents that break a rule of syntax or standards.
        counts: Pairs and clusters of near duplicates, by name.
    """

    near: pa.Table
    failed: pa.Table
    counts: dict[str, int]


class Settling:
    """Rounds of finding near duplicates and examining what they leave.

    Args:
        documents: Those that remain, without exact duplicates.
        near: `None` keeps near duplicates.
        broken: The first rule of syntax or standards that a document breaks; `None` without such rules.
    """

    def __init__(
        self,
        corpus: Corpus,
        documents: DataFrame,
        near: NearDuplicates | None,
        broken: Expression | None,
        on_progress: Progress,
    ) -> None:
        self._corpus = corpus
        self._documents = documents
        self._near = near
        self._broken = broken
        self._progress = on_progress

    def settle(self) -> Settled:
        """Runs the rounds until nothing changes, or reads what an earlier try has found."""
        found = self._corpus.once("near", self._run)
        counts = self._corpus.work / "near.json"
        return Settled(
            found,
            pq.read_table(self._corpus.work / "failed.parquet"),
            json.loads(counts.read_text(encoding="utf-8")) if self._near is not None else {},
        )

    def _run(self) -> pa.Table:
        """Writes which documents break a rule, and returns the near duplicates."""
        keys = np.sort(self._documents.select("key").to_arrow()["key"].to_numpy())
        folder = self._corpus.work / "sets"
        columns = self._documents.select("key", *RANK, "bands", "shingles")
        graph = NearGraph(columns, self._corpus.measured, folder, self._near) if self._near is not None else None
        if graph is not None:
            self._progress("near duplicates", 0, 1)
            graph.search(keys)
        failed, judged, behind = _FAILED.empty_table(), _NO_KEYS, _NO_KEYS
        while True:
            failed_keys = failed["key"].to_numpy()
            found = graph.elect(failed_keys) if graph is not None else NO_DUPLICATES
            staying = np.setdiff1d(keys, np.union1d(found["key"].to_numpy(), failed_keys))
            wanted = np.setdiff1d(np.union1d(staying, behind), judged)
            if len(wanted):
                newly = self._examine(wanted)
                judged = np.union1d(judged, wanted)
                failed = pa.concat_tables([failed, newly])
                # If a representative fails, all that it represented are examined, so that the rounds are few.
                behind = found.filter(pc.is_in(found["cluster"], pa.array(newly["key"].to_numpy())))["key"].to_numpy()
                if len(newly):
                    continue
            if graph is None or not graph.search(staying):
                break
        if graph is not None:
            self._progress("near duplicates", 1, 1)
            shutil.rmtree(folder)
            write_text(self._corpus.work / "near.json", json.dumps(graph.counts))
        pq.write_table(failed, self._corpus.work / "failed.parquet")
        return found.select(["key", "cluster"])

    def _examine(self, keys: NDArray[np.int64]) -> pa.Table:
        """Examines documents, and judges them by syntax and standards: `key` and `reason` of what breaks a rule."""
        self._corpus.examine(keys)
        paths = self._corpus.list_examined()
        if self._broken is None or not paths:
            return _FAILED.empty_table()
        wanted = daft.from_pydict({"key": pa.array(keys)})
        examined = daft.read_parquet(paths).join(wanted, on="key")
        documents = self._documents.exclude("bands", "pieces", "verdict").join(examined, on="key")
        judged = documents.select("key", self._broken.alias("reason")).where(col("reason").not_null())
        return judged.to_arrow().cast(_FAILED).sort_by("key")
