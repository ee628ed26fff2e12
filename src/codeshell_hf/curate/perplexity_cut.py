"""Trains the n-gram model, and finds the documents of highest perplexity in every language."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .corpus import ROW, Corpus
from .ngrams import train, write_arpa
from .settings import Perplexity
from .words import load_splitter


def train_ngrams(corpus: Corpus, perplexity: Perplexity, path: Path) -> None:
    """Trains a model on the most preferred documents, and writes it as ARPA."""
    split = load_splitter(perplexity.words)
    sample = (split(text) for text in corpus.sample_preferred(perplexity.sample_bytes))
    write_arpa(train(sample, order=perplexity.order, min_word_count=perplexity.min_word_count), path)


def find_perplexing(corpus: Corpus, keep_fraction: float) -> tuple[NDArray[np.int64], dict[str, float]]:
    """The keys of remaining documents above their language's quantile of perplexity, and those quantiles."""
    values: dict[str, list[float]] = {}
    for _, language, value in _read_perplexities(corpus):
        values.setdefault(language, []).append(value)
    cuts = {name: float(np.quantile(of_language, keep_fraction)) for name, of_language in values.items()}
    high = [key for key, language, value in _read_perplexities(corpus) if value > cuts[language]]
    return np.array(high, np.int64), cuts


def _read_perplexities(corpus: Corpus) -> Iterator[tuple[int, str, float]]:
    for part, table in enumerate(corpus.read("inspect", ["key", "perplexity"])):
        languages = pq.read_table(corpus.measured[part], columns=["language"])["language"].to_pylist()
        codes = corpus.verdicts.select(part)
        for key, value in zip(table["key"].to_pylist(), table["perplexity"].to_pylist(), strict=True):
            if codes[key & ROW] == 0:
                yield key, languages[key & ROW], value
