"""Finds documents that contain a benchmark's prompts or solutions."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import DataError
from ..text.word_hashes import MIN_WORDS, WORDS, hash_text, roll
from .settings import Benchmark

_FILTER_BITS = 22
# Fields of prompts and solutions: HumanEval, MBPP, MultiPL-E, GSM8K, infilling, MMLU.
FIELDS = (
    "prompt",
    "canonical_solution",
    "text",
    "code",
    "question",
    "answer",
    "solution",
    "suffix",
    "reference",
    "messages",
)
_CHOICE_COLUMNS = 6


def read_benchmark(benchmark: Benchmark) -> tuple[str, ...]:
    """Reads the distinct texts of a benchmark.

    Its path is JSON Lines, compressed or not, Parquet, multiple-choice CSV, plain text with empty lines between texts,
    or a folder of those. Without `fields` in the settings, those of `FIELDS` that exist are read.

    Raises:
        DataError: If it cannot be read or has no text.
    """
    name, path, fields = benchmark.name, benchmark.path, benchmark.fields or FIELDS
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        read = [text for file in files for text in _read_texts(file, fields)]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"benchmark {name} at {path} cannot be read ({error}); name JSON Lines, Parquet or text"
        ) from error
    texts = tuple(dict.fromkeys(text for text in read if text.strip()))
    if not texts:
        raise DataError(f"benchmark {name} at {path} has none of the fields {', '.join(fields)}; set fields")
    return texts


def _read_texts(file: Path, fields: Sequence[str]) -> Iterator[str]:
    name = file.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") if name.endswith(".gz") else file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield from _pick(json.loads(line), fields)
    elif name.endswith(".parquet"):
        for row in pq.read_table(file).to_pylist():
            yield from _pick(row, fields)
    elif name.endswith(".csv"):
        import csv

        with file.open(encoding="utf-8", newline="") as lines:
            for cells in csv.reader(lines):
                yield " ".join(cells[: _CHOICE_COLUMNS - 1])
    elif name.endswith((".txt", ".md")) and not name.startswith(("readme", "licen")):
        yield from re.split(r"\n\s*\n", file.read_text(encoding="utf-8"))


def _pick(row: Mapping[str, object], fields: Sequence[str]) -> Iterator[str]:
    for field in fields:
        value = row.get(field)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):  # a conversation
            yield from (
                turn["content"] for turn in value if isinstance(turn, dict) and isinstance(turn.get("content"), str)
            )


class Decontaminator:
    """Searches documents for word sequences of benchmarks.

    A document is contaminated if it contains ten consecutive words of a benchmark, ignoring case and punctuation; of
    texts with six to nine words, all of them. This includes complete prompts and solutions as substrings.

    Args:
        texts: Of each benchmark, by name.
        min_hits: Number of common sequences that make a document contaminated.

    Source:
        10-gram overlap as in Qwen2.5-Coder (Hui et al. 2024, arXiv:2409.12186, section 3.1.2); case-insensitive
        substrings as in StarCoder (Li et al. 2023, arXiv:2305.06161, section 3.4).
    """

    def __init__(self, texts: Mapping[str, Sequence[str]], *, min_hits: int = 1) -> None:
        self._min_hits = min_hits
        self._names = list(texts)
        owners: dict[int, dict[int, int]] = {}
        for place, name in enumerate(texts):
            for text in texts[name]:
                words = hash_text(text.encode())
                if len(words) >= MIN_WORDS:
                    size = min(len(words), WORDS)
                    of_size = owners.setdefault(size, {})
                    for value in roll(words, size).tolist():
                        of_size.setdefault(value, place)
        self._sizes: list[tuple[int, NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]] = []
        for size, values in sorted(owners.items()):
            keys = np.array(sorted(values), np.uint64)
            mask = np.zeros(1 << _FILTER_BITS, bool)
            mask[(keys >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)] = True
            self._sizes.append((size, keys, np.array([values[int(key)] for key in keys]), mask))

    def find(self, text: bytes) -> str | None:
        """The name of a benchmark that contaminates a document (UTF-8); `None` if there is none."""
        words = hash_text(text)
        for size, keys, places, mask in self._sizes:
            rolled = roll(words, size)
            suspects = rolled[mask[(rolled >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)]]
            if not len(suspects):
                continue
            rows = np.minimum(np.searchsorted(keys, suspects), len(keys) - 1)
            hits = rows[keys[rows] == suspects]
            if len(np.unique(hits)) >= self._min_hits:
                return self._names[int(places[hits[0]])]
        return None
