"""Selects a number of tokens, the best or at random."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .corpus import ROW, Corpus
from .settings import Selection


def find_surplus(corpus: Corpus, selection: Selection) -> NDArray[np.int64]:
    """The keys of remaining documents that are not selected; languages keep their shares."""
    keys, tokens, scores, languages = [], [], [], []
    for part, table in enumerate(corpus.read("inspect", ["key", "tokens"])):
        staying = table.filter(pa.array(corpus.verdicts.select(part)[table["key"].to_numpy() & ROW] == 0))
        keys.append(staying["key"].to_numpy())
        tokens.append(staying["tokens"].to_numpy())
        named = pq.read_table(corpus.measured[part], columns=["language"])["language"].to_numpy()
        languages.append(named[keys[-1] & ROW])
        if selection.by == "quality":
            scores.append(_read_scores(corpus.locate("quality", part), keys[-1]))
    flat, sizes = np.concatenate(keys), np.concatenate(tokens)
    if selection.by == "quality":
        order = np.argsort(-np.concatenate(scores), kind="stable")
    else:
        order = np.random.default_rng(selection.seed).permutation(len(flat))
    is_taken = take_shares(sizes[order], np.concatenate(languages)[order], selection.max_tokens)
    surplus: NDArray[np.int64] = flat[order[~is_taken]]
    return surplus


def _read_scores(path: Path, keys: NDArray[np.int64]) -> NDArray[np.float32]:
    scored = pq.read_table(path, columns=["key", "quality"])
    scores: NDArray[np.float32] = scored["quality"].to_numpy()[np.searchsorted(scored["key"].to_numpy(), keys)]
    return scores


def take_shares(tokens: NDArray[np.int64], groups: NDArray[np.object_], max_tokens: int) -> NDArray[np.bool_]:
    """Selects the first documents of every group, up to the group's share of `max_tokens`.

    Args:
        tokens: Of documents, the best first, int64, shape (D,).
        groups: Names of their groups, shape (D,).
        max_tokens: In total; a group's share is its share of all tokens.

    Returns:
        Whether each is selected, bool, shape (D,).

    >>> take_shares(np.array([10, 10, 20, 20]), np.array(["a", "b", "a", "b"]), 30)
    array([ True,  True, False, False])
    """
    is_taken = np.zeros(len(tokens), bool)
    share = max_tokens / max(int(tokens.sum()), 1)
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        running = np.cumsum(tokens[places])
        is_taken[places[running <= running[-1] * share]] = True
    return is_taken
