"""Work that the ranks of a run share: each does an equal part, and all get all results."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import distributed
from transformers import PreTrainedModel

Result = TypeVar("Result")


def count_ranks() -> tuple[int, int]:
    """This rank's number, and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def choose_share(count: int) -> list[int]:
    """The items of this rank; all ranks have as many, so some items may be done by two.

    A sharded model needs every rank in each of its forward passes.
    """
    rank, ranks = count_ranks()
    return [(rank + ranks * place) % count for place in range(-(-count // ranks))]


def gather_results(own: Mapping[int, Result]) -> dict[int, Result]:
    """The results of all ranks by item; what two ranks did is the first one's."""
    _, ranks = count_ranks()
    if ranks == 1:
        return dict(own)
    everything: list[dict[int, Result]] = [{} for _ in range(ranks)]
    distributed.all_gather_object(everything, dict(own))
    return {item: result for part in reversed(everything) for item, result in part.items()}


@torch.no_grad()
def compute_in_batches(
    model: PreTrainedModel, count: int, batch_size: int, compute: Callable[[Sequence[int]], Sequence[Result]]
) -> list[Result]:
    """Computes something of each item with the model in evaluation mode; the ranks share the items, and all get all.

    Args:
        compute: Takes the places of a batch's items.
    """
    own = choose_share(count)
    was_training = model.training
    model.eval()
    found: dict[int, Result] = {}
    for first in range(0, len(own), batch_size):
        places = own[first : first + batch_size]
        found.update(zip(places, compute(places), strict=True))
    model.train(was_training)
    gathered = gather_results(found)
    return [gathered[place] for place in range(count)]


def sum_over_ranks(value: float, device: torch.device) -> float:
    """The sum of a number over all ranks."""
    if count_ranks()[1] == 1:
        return value
    total = torch.tensor(float(value), device=device)
    distributed.all_reduce(total)
    return float(total)
