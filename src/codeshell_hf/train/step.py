"""A step of training, before the optimiser: a rank's rows become gradients, and its share of the loss."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from ..errors import Interrupted
from .batches import MicroBatch, count_labels
from .engine import Engine
from .ranks import Ranks


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Seeds the RNGs of a step on the CPU and on GPUs, so that a resumed run drops what it would have dropped."""
    (state,) = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state))


def accumulate_gradients(
    engine: Engine, batches: Sequence[MicroBatch], ranks: Ranks, is_stopping: Callable[[], bool] | None = None
) -> Tensor:
    """Runs forward and backward over this rank's micro-batches, and returns its share of the step's loss.

    Args:
        engine: The model.
        batches: As many on each rank.
        ranks: All.
        is_stopping: Asked on each rank after each micro-batch. Ranks read the answer one micro-batch later, and stop
            at the same one; a rank waits for another only if it is more than one micro-batch ahead.

    Raises:
        Interrupted: On all ranks, if it holds on any; the gradients are dropped.
    """
    # The loss is the mean over all labels of the step, across ranks and micro-batches.
    (labels,) = ranks.readers.all_reduce_sum(count_labels(batches))
    loss_sum = torch.zeros((), device=ranks.device)
    agreed: Callable[[], bool] = lambda: False  # noqa: E731 - replaced with each micro-batch
    for number, batch in enumerate(batches, start=1):
        is_last = number == len(batches)
        with nullcontext() if is_last else engine.no_sync():
            with engine.autocast():
                loss = engine.module(**engine.make_inputs(batch)) / labels
            engine.backward(loss, is_last=is_last)
        loss_sum += loss.detach()
        if is_stopping is not None:
            if agreed() and not is_last:
                engine.drop_gradients()
                raise Interrupted("the step was stopped; run the same command again")
            agreed = (lambda: False) if is_last else ranks.agree_later(holds=is_stopping())
    return loss_sum


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
