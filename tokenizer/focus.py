"""Embeddings of new tokens from similar old tokens (FOCUS), by co-occurrence vectors.

Source: Dobler and de Melo 2023, arXiv:2305.14481, with factors of a positive PMI matrix (Levy and Goldberg 2014) in
place of fastText, which would be another dependency.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 5
WIDTH = 128
MIN_USES = 5  # rarer tokens have too few neighbours for a vector


def make_vectors(ids: NDArray[np.int64], entries: int) -> tuple[Tensor, Tensor]:
    """Makes a co-occurrence vector for each token.

    Args:
        ids: Tokens of a text, shape (T,).
        entries: Size of the vocabulary, V.

    Returns:
        Vectors of length 1, shape (V, up to 128), float32, zero for tokens that are too rare; and which tokens have a
        vector, shape (V,), bool.
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
    smoothed = near**0.75  # so that rare neighbours do not dominate
    information = torch.log(value * smoothed.sum() / (near[row] * smoothed[column]))
    matrix = torch.sparse_coo_tensor(counts.indices(), information.clamp(min=0), counts.shape, check_invariants=True)
    torch.manual_seed(0)
    factors, strengths, _ = torch.svd_lowrank(matrix, q=min(WIDTH, entries))
    vectors = torch.nn.functional.normalize(factors * strengths.sqrt(), dim=1)
    known = torch.from_numpy(np.bincount(ids, minlength=entries) >= MIN_USES)
    return vectors * known[:, None], known


def weigh_neighbours(vectors: Tensor, anchors: Tensor) -> Tensor:
    """Sparse weights of the anchors for each vector, by sparsemax over cosine similarities.

    Args:
        vectors: Unit vectors, shape (N, D).
        anchors: Unit vectors, shape (A, D), A > 0.

    Returns:
        Shape (N, A); rows sum to 1.
    """
    return sparsemax(vectors @ anchors.T)


def sparsemax(scores: Tensor) -> Tensor:
    """The nearest point of the probability simplex, row by row.

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
