"""The processes of a run, and sums over them."""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

# Of what waits for files: torch's own is shorter than it takes to write a model of 65B.
WRITING_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True)
class Ranks:
    """This process's device and rank, and the number of ranks.

    Args:
        host: A group of all ranks for CPU tensors; `None` for the default group.
    """

    device: torch.device
    rank: int
    count: int
    host: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank prints and writes for all."""
        return self.rank == 0

    def print(self, text: str) -> None:
        """Prints on the first rank only."""
        if self.is_first:
            print(text, flush=True)  # noqa: T201 - the loop's own output

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sums each number over all ranks, without waiting for a device; every rank gets the same result."""
        numbers = torch.tensor(values, dtype=torch.float64)
        if self.count > 1:
            dist.all_reduce(numbers, group=self.host)
        return [float(value) for value in numbers.tolist()]
