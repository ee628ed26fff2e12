"""The processes of a run, and sums over them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import SettingsError

# Of what waits for files: torch's own is shorter than it takes to write a model of 65B.
WRITING_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True)
class Ranks:
    """This process's device and rank, and the number of ranks.

    Args:
        host: A group of all ranks for CPU tensors; `None` for the default group.
        together: Neighbouring ranks that compute the same rows together, by tensor and context parallelism.
    """

    device: torch.device
    rank: int
    count: int
    host: dist.ProcessGroup | None = None
    together: int = 1

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

    def agree_later(self, *, holds: bool) -> Callable[[], bool]:
        """Starts to find out whether something holds on any rank; the returned function waits, and gives all the same.

        No rank waits for a device. Ranks make the same calls in the same order.
        """
        number = torch.tensor(float(holds))
        if self.count == 1:
            return lambda: holds
        work = dist.all_reduce(number, group=self.host, async_op=True)

        def read() -> bool:
            work.wait()
            return bool(number > 0)

        return read

    def join(self, together: int) -> "Ranks":
        """These ranks, of which so many neighbours compute the same rows.

        Raises:
            SettingsError: If they do not make whole groups.
        """
        if self.count % together:
            raise SettingsError(
                f"{self.count} ranks do not make groups of {together}, the product of tp and cp; start a multiple"
            )
        return replace(self, together=together)

    @property
    def readers(self) -> "Readers":
        """The groups of ranks that compute the same rows, each as one reader of rows."""
        return Readers(self)


@dataclass(frozen=True)
class Readers:
    """Groups of ranks that compute the same rows: the number of this one, how many there are, and sums over them."""

    ranks: Ranks

    @property
    def rank(self) -> int:
        """The number of this rank's group, from 0."""
        return self.ranks.rank // self.ranks.together

    @property
    def count(self) -> int:
        """How many groups there are."""
        return self.ranks.count // self.ranks.together

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sums each number over the groups; the ranks of a group have the same, or one of them has what counts."""
        return [value / self.ranks.together for value in self.ranks.all_reduce_sum(*values)]
