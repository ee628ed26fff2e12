"""What is looked at in the text of documents that are still in: perplexity, benchmarks, tokens, quality."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..precision import Arithmetic
from ..processors import set_threads
from .annotation import annotate_by_signals
from .decontamination import Decontaminator, read_benchmark
from .measurement import SIGNAL_NAMES
from .ngrams import load_scorer
from .parts import Part, read_kept
from .regressor import Regressor
from .repetition import find_holders, remove_pieces
from .words import load_splitter

INSPECTED = pa.schema(
    [
        ("key", pa.int64()),
        ("perplexity", pa.float32()),
        ("benchmark", pa.string()),
        ("tokens", pa.int32()),
        ("left", pa.int32()),
    ]
)
SCORED = pa.schema([("key", pa.int64()), ("quality", pa.float32())])
STATIC = "static"


def inspect_part(task: dict[str, Any], shared: dict[str, Any]) -> None:
    """Measures perplexity, benchmark texts, tokens and what repeated pieces leave, of the documents still in.

    Args:
        task: A `Part` as plain values.
        shared: `model` and `words` of the n-gram model or `None`, `max_characters` it reads; `benchmarks`, each with
            name, path and fields; `min_hits`; `tokenizer` or `None`; `pieces`, `repeated` (a file) and
            `min_piece_bytes` or `None`.
    """
    part = Part(**task)
    scorer = _load_scorer(shared["model"]) if shared["model"] else None
    split = _load_splitter(shared["words"])
    tokenize = _load_splitter(shared["tokenizer"]) if shared["tokenizer"] else None
    named = tuple((row["name"], row["path"], tuple(row["fields"])) for row in shared["benchmarks"])
    decontaminator = _load_decontaminator(named, shared["min_hits"])
    benchmarks = shared["benchmarks"]
    repeated = np.load(shared["repeated"]) if shared["repeated"] else np.empty(0, np.int64)
    with _Writer(part, INSPECTED) as writer:
        for batch in read_kept(part, ["key", "text", "code_words", "pieces"]):
            texts, counts = batch["text"].to_pylist(), batch["code_words"].to_pylist()
            holders = find_holders(batch["pieces"], repeated).tolist()
            rows = [{"key": key} for key in batch["key"].to_pylist()]
            if scorer is not None:
                logs, words = scorer([split(text[: shared["max_characters"]]) for text in texts])
                for row, value in zip(rows, 10 ** (-logs / words), strict=True):
                    row["perplexity"] = float(min(value, 1e30))
            for row, text, words_in_it, is_holder in zip(rows, texts, counts, holders, strict=True):
                row["benchmark"] = decontaminator.find(text.encode()) if benchmarks else None
                row["tokens"] = len(tokenize(text)) if tokenize else words_in_it
                if is_holder:
                    left = remove_pieces(text, shared["pieces"], repeated, min_bytes=shared["min_piece_bytes"])
                    row["left"] = len(left.strip())
            writer.write(rows)


# What takes long to load is loaded once a process.
_load_scorer = lru_cache(maxsize=1)(lambda path: load_scorer(Path(path)))
_load_splitter = lru_cache(maxsize=2)(load_splitter)


@lru_cache(maxsize=1)
def _load_decontaminator(rows: tuple[tuple[str, str, tuple[str, ...]], ...], min_hits: int) -> Decontaminator:
    return Decontaminator((read_benchmark(name, Path(path), fields) for name, path, fields in rows), min_hits=min_hits)


def score_part(task: dict[str, Any], shared: dict[str, Any]) -> None:
    """Scores the quality of the documents still in.

    Args:
        task: A `Part` as plain values.
        shared: `model`, a folder or "static"; `max_tokens`, `precision`, `batch_documents` and `workers`.
    """
    part = Part(**task)
    if shared["model"] == STATIC:
        regressor = None
    else:
        set_threads(shared["workers"])
        regressor = _load_regressor(shared["model"], shared["max_tokens"], shared["precision"])
    with _Writer(part, SCORED) as writer:
        for batch in read_kept(part, ["key", "text"] if regressor else ["key", *SIGNAL_NAMES]):
            if regressor is None:
                scores = [annotate_by_signals(row) for row in batch.to_pylist()]
            else:
                scores = regressor.score(batch["text"].to_pylist(), batch_documents=shared["batch_documents"])
            keys = batch["key"].to_pylist()
            writer.write([{"key": key, "quality": score} for key, score in zip(keys, scores, strict=True)])


@lru_cache(maxsize=1)
def _load_regressor(folder: str, max_tokens: int, precision: Arithmetic) -> Regressor:
    return Regressor(folder, max_tokens=max_tokens, precision=precision)


class _Writer:
    """Writes rows to a part's file, which is whole or absent."""

    def __init__(self, part: Part, schema: pa.Schema) -> None:
        self._path = Path(part.output)
        self._aside = self._path.with_suffix(".tmp")
        self._schema = schema

    def __enter__(self) -> "_Writer":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._aside, self._schema, compression="zstd")
        return self

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._file.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._aside.replace(self._path)
