"""A step of training, before the optimiser: a rank's rows become gradients, and its share of the loss."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .engine import Engine
from .loss import IGNORED
from .ranks import Ranks


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


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Seeds the RNGs of a step on the CPU and on GPUs, so that a resumed run drops what it would have dropped."""
    (state,) = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state))


def accumulate_gradients(engine: Engine, batches: Sequence[MicroBatch], ranks: Ranks) -> Tensor:
    """Runs forward and backward over this rank's micro-batches, and returns its share of the step's loss."""
    # The loss is the mean over all labels of the step, across ranks and micro-batches.
    (labels,) = ranks.all_reduce_sum(count_labels(batches))
    loss_sum = torch.zeros((), device=ranks.device)
    for number, batch in enumerate(batches, start=1):
        is_last = number == len(batches)
        with nullcontext() if is_last else engine.no_sync():
            with engine.autocast():
                loss = engine.module(**to_tensors(batch, ranks.device, with_lengths=engine.takes_lengths)) / labels
            engine.backward(loss, is_last=is_last)
        loss_sum += loss.detach()
    return loss_sum


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
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if device.type == "cuda":  # copies of pageable memory wait for the device
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    moved: dict[str, Tensor | int] = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    if with_lengths:
        row_tokens = batch.position_ids.shape[1]  # a constant upper bound, so that nothing is compiled again
        moved |= {"cu_seq_lens_k": moved["cu_seq_lens_q"], "max_length_q": row_tokens, "max_length_k": row_tokens}
    return moved


def accumulate_lengths(position_ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """The cumulative lengths of documents over all rows, from 0, shape (N + 1,).

    A document starts with each row, and where positions do not increase by one.
    """
    is_first = np.ones(position_ids.shape, dtype=bool)
    is_first[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
    return np.append(np.flatnonzero(is_first), position_ids.size).astype(np.int32)


def read_later(value: Tensor) -> Callable[[], float]:
    """Starts to copy a scalar to the host; the returned function waits for this copy only."""
    copy = value.to("cpu", non_blocking=True)
    copied = torch.cuda.Event() if value.is_cuda else None  # type: ignore[no-untyped-call]
    if copied is not None:
        copied.record()

    def read() -> float:
        if copied is not None:
            copied.synchronize()
        return float(copy)

    return read
