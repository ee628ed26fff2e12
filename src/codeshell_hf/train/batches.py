"""Micro-batches as the model's arguments."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .loss import IGNORED


class MicroBatch(Protocol):
    """The rows of a forward pass, as `pack` reads them."""

    @property
    def input_ids(self) -> NDArray[np.int64]:
        """Shape (B, T)."""

    @property
    def position_ids(self) -> NDArray[np.int64]:
        """Shape (B, T); they restart with each document."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Shape (B, T); -100 is not predicted."""


def count_labels(batches: Sequence[MicroBatch]) -> int:
    """Counts predicted labels: those after the first position of a row that are not ignored."""
    return sum(int((batch.labels[:, 1:] != IGNORED).sum()) for batch in batches)


def to_tensors(batch: MicroBatch, device: torch.device, *, with_lengths: bool = False) -> dict[str, Tensor | int]:
    """Moves a batch to a device, as the model's arguments.

    Args:
        with_lengths: Whether to add the documents' cumulative lengths, shape (N + 1,), int32. Without them, attention
            by lengths finds the documents on the device, and the host waits for it.
    """
    arrays: dict[str, NDArray[np.integer]] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "labels": batch.labels,
    }
    if with_lengths:
        arrays["cu_seq_lens_q"] = accumulate_lengths(batch.position_ids)
    moved: dict[str, Tensor | int] = {**move(arrays, device)}
    if with_lengths:
        row_tokens = batch.position_ids.shape[1]  # a constant upper bound, so that nothing is compiled again
        moved |= {"cu_seq_lens_k": moved["cu_seq_lens_q"], "max_length_q": row_tokens, "max_length_k": row_tokens}
    return moved


def move(arrays: Mapping[str, NDArray[np.integer]], device: torch.device) -> dict[str, Tensor]:
    """Copies arrays to a device, without waiting for it."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if device.type == "cuda":  # copies of pageable memory wait for the device
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


def accumulate_lengths(position_ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """The cumulative lengths of documents over all rows, from 0, shape (N + 1,).

    A document starts with each row, and where positions do not increase by one.
    """
    is_first = np.ones(position_ids.shape, dtype=bool)
    is_first[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
    return np.append(np.flatnonzero(is_first), position_ids.size).astype(np.int32)
