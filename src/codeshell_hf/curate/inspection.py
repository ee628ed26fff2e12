"""Measures the remaining documents: perplexity, benchmark texts, tokens, quality."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TypedDict, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..precision import ComputeDtype
from ..processors import set_threads
from .annotation import annotate_by_signals
from .benchmark_tasks import read_tasks
from .decontamination import Decontaminator
from .measured_parts import SIGNAL_NAMES
from .ngrams import load_scorer
from .parts import CorpusPart, Repeated, read_kept
from .preference_score import Measured
from .quality_scores import OUTPUTS
from .regressor import Regressor
from .repetition import find_holders, remove_pieces
from .settings import Benchmark
from .words import load_splitter

INSPECTED = pa.schema(
    [
        ("key", pa.int64()),
        ("perplexity", pa.float32()),
        ("benchmark", pa.string()),
        ("overlap", pa.float32()),
        ("tokens", pa.int32()),
        ("left", pa.int32()),
    ]
)
SCORED = pa.schema([("key", pa.int64()), *((name, pa.float32()) for name in OUTPUTS)])
STATIC = "static"


class Ngrams(TypedDict):
    """An n-gram model: its file, its word splitter, and how many characters of a document it scores."""

    path: str
    words: str
    max_characters: int


class InspectShared(TypedDict):
    """Arguments of all tasks; benchmarks are settings as plain values."""

    ngrams: Ngrams | None
    benchmarks: list[dict[str, object]]
    min_hits: int
    min_overlap: float
    tokenizer: str | None
    repeated: Repeated | None


class ScoreShared(TypedDict):
    """Arguments of all tasks; `model` is a folder, or "static"."""

    model: str
    max_tokens: int
    precision: ComputeDtype
    batch_documents: int
    workers: int


def inspect_part(part: CorpusPart, shared: InspectShared) -> None:
    """Measures perplexity, benchmark texts, tokens, and the size without repeated pieces."""
    ngrams, repeated = shared["ngrams"], shared["repeated"]
    scorer = _load_scorer(ngrams["path"]) if ngrams else None
    tokenize = _load_splitter(shared["tokenizer"]) if shared["tokenizer"] else None
    benchmarks = tuple(Benchmark.model_validate(values) for values in shared["benchmarks"])
    decontaminator = _load_decontaminator(benchmarks, shared["min_hits"], shared["min_overlap"])
    hashes = np.load(repeated["path"]) if repeated else np.empty(0, np.int64)
    with _Writer(part, INSPECTED) as writer:
        for batch in read_kept(part, ["key", "text", "language", "code_words", "pieces"]):
            texts, counts = batch["text"].to_pylist(), batch["code_words"].to_pylist()
            languages = batch["language"].to_pylist()
            holders = find_holders(batch["pieces"], hashes).tolist()
            rows: list[dict[str, object]] = [{"key": key} for key in batch["key"].to_pylist()]
            if ngrams is not None and scorer is not None:
                split = _load_splitter(ngrams["words"])
                logs, words = scorer([split(text[: ngrams["max_characters"]]) for text in texts])
                for row, value in zip(rows, 10 ** (-logs / words), strict=True):
                    row["perplexity"] = float(min(value, 1e30))
            if benchmarks:
                found_in = decontaminator.find_all([text.encode() for text in texts], languages)
            else:
                found_in = [None] * len(texts)
            for row, text, found, code_words, is_holder in zip(rows, texts, found_in, counts, holders, strict=True):
                row["benchmark"], row["overlap"] = (found.benchmark, found.overlap) if found else (None, None)
                row["tokens"] = len(tokenize(text)) if tokenize else code_words
                if repeated is not None and is_holder:
                    left = remove_pieces(text, repeated["piece"], hashes, min_bytes=repeated["min_bytes"])
                    row["left"] = len(left.strip())
            writer.write(rows)


# Slow to load, so once per process.
_load_scorer = lru_cache(maxsize=1)(lambda path: load_scorer(Path(path)))
_load_splitter = lru_cache(maxsize=2)(load_splitter)


@lru_cache(maxsize=1)
def _load_decontaminator(benchmarks: tuple[Benchmark, ...], min_hits: int, min_overlap: float) -> Decontaminator:
    tasks = {row.name: read_tasks(row) for row in benchmarks}
    return Decontaminator(tasks, min_hits=min_hits, min_overlap=min_overlap)


def score_part(part: CorpusPart, shared: ScoreShared) -> None:
    """Scores quality."""
    if shared["model"] == STATIC:
        regressor = None
    else:
        set_threads(shared["workers"])
        regressor = _load_regressor(shared["model"], shared["max_tokens"], shared["precision"])
    with _Writer(part, SCORED) as writer:
        for batch in read_kept(part, ["key", "text"] if regressor else ["key", *SIGNAL_NAMES]):
            if regressor is None:
                scores = [annotate_by_signals(cast(Measured, row)) for row in batch.to_pylist()]
            else:
                scores = regressor.score(batch["text"].to_pylist(), batch_documents=shared["batch_documents"])
            keys = batch["key"].to_pylist()
            named = [dict(zip(OUTPUTS, values, strict=True)) for values in scores]
            writer.write([{"key": key, **values} for key, values in zip(keys, named, strict=True)])


@lru_cache(maxsize=1)
def _load_regressor(folder: str, max_tokens: int, precision: ComputeDtype) -> Regressor:
    return Regressor(folder, max_tokens=max_tokens, precision=precision)


class _Writer:
    """Writes rows to a part's file, which is complete or absent."""

    def __init__(self, part: CorpusPart, schema: pa.Schema) -> None:
        self._path = Path(part["output"])
        self._temporary = self._path.with_suffix(".tmp")
        self._schema = schema

    def __enter__(self) -> "_Writer":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
        return self

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        self._file.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._temporary.replace(self._path)
