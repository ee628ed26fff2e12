"""Rows for new tokens from tokens that stand in the same places: FOCUS, on vectors of co-occurrence.

Source: Dobler and de Melo 2023, arXiv:2305.14481. Their vectors are fastText's; these are the factors of a matrix of
positive pointwise mutual information (Levy and Goldberg 2014), which needs no other package.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 5
WIDTH = 128
FEWEST_USES = 5  # a token that is rarer has no neighbours to speak of


def make_vectors(ids: NDArray[np.int64], entries: int) -> tuple[Tensor, Tensor]:
    """Makes a vector for each token of how often which others stand near it.

    Args:
        ids: A text as tokens, shape (T,).
        entries: Size of the vocabulary, V.

    Returns:
        Vectors of length 1, shape (V, up to 128), float32, zero where a token is not known; and which are known,
        shape (V,), bool.
    """
    # Nearer neighbours count more, as in word2vec and GloVe.
    left = np.concatenate([ids[:-step] for step in range(1, WINDOW + 1)])
    right = np.concatenate([ids[step:] for step in range(1, WINDOW + 1)])
    weights = np.concatenate([np.full(max(len(ids) - step, 0), 1 / step) for step in range(1, WINDOW + 1)])
    pairs = torch.from_numpy(np.stack([np.concatenate([left, right]), np.concatenate([right, left])]))
    counts = torch.sparse_coo_tensor(
        pairs, torch.from_numpy(np.tile(weights, 2)).float(), (entries, entries), check_invariants=True
    ).coalesce()
    row, column, value = *counts.indices(), counts.values()
    near = torch.zeros(entries).index_add_(0, row, value)
    smoothed = near**0.75  # so that rare neighbours do not rule
    information = torch.log(value * smoothed.sum() / (near[row] * smoothed[column]))
    matrix = torch.sparse_coo_tensor(counts.indices(), information.clamp(min=0), counts.shape, check_invariants=True)
    torch.manual_seed(0)
    factors, strengths, _ = torch.svd_lowrank(matrix, q=min(WIDTH, entries))
    vectors = torch.nn.functional.normalize(factors * strengths.sqrt(), dim=1)
    known = torch.from_numpy(np.bincount(ids, minlength=entries) >= FEWEST_USES)
    return vectors * known[:, None], known


def weigh_neighbours(vectors: Tensor, anchors: Tensor) -> Tensor:
    """Weighs anchors for each vector by their cosine; most weights are 0.

    Args:
        vectors: Of length 1, shape (N, D).
        anchors: Of length 1, shape (A, D), at least one.

    Returns:
        Shape (N, A); rows sum to 1.
    """
    return sparsemax(vectors @ anchors.T)


def sparsemax(scores: Tensor) -> Tensor:
    """The nearest point of the simplex, row by row.

    >>> sparsemax(torch.tensor([[0.5, 0.25, -1.0]])).tolist()
    [[0.625, 0.375, 0.0]]

    Source:
        Martins and Astudillo 2016, arXiv:1602.02068, algorithm 1.
    """
    ordered = scores.sort(dim=1, descending=True).values
    sums = ordered.cumsum(dim=1) - 1
    ranks = torch.arange(1, scores.shape[1] + 1)
    kept = (ordered * ranks > sums).sum(dim=1, keepdim=True)
    threshold = sums.gather(1, kept - 1) / kept
    return (scores - threshold).clamp(min=0)
