"""Micro-batches as the model's arguments: labels that count, lengths of documents."""

import numpy as np
import torch

from codeshell_hf.pack.rows import IGNORED, Batch
from codeshell_hf.train.batches import accumulate_lengths, count_labels, to_tensors


def test_labels_are_counted_without_first_positions_and_ignored_ones() -> None:
    labels = np.array([[1, 2, IGNORED, 4], [IGNORED, 6, 7, 8]])
    batch = Batch(labels, labels, labels)

    assert count_labels([batch, batch]) == 2 * 5


def test_a_batch_becomes_the_models_arguments() -> None:
    ids, positions, labels = (np.full((2, 3), value) for value in (1, 2, 3))

    tensors = to_tensors(Batch(ids, positions, labels), torch.device("cpu"))

    assert {name: int(torch.as_tensor(tensor)[0, 0]) for name, tensor in tensors.items()} == {
        "input_ids": 1,
        "position_ids": 2,
        "labels": 3,
    }


def test_lengths_of_documents_accumulate_over_rows() -> None:
    positions = np.array([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5], [4, 5, 0, 0, 1, 2]])

    found = accumulate_lengths(positions)

    assert found.tolist() == [0, 3, 5, 6, 12, 14, 15, 18]
    assert found.dtype == np.int32
