"""Rows from several shards by weight, in an order that is a pure function of the seed and the tokens consumed."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .infilling import Infilling
from .rows import Batch, Documents, Phase, Rows

# Shares are exact over so many blocks.
PERIOD = 1024


class Mixture:
    """The endless stream of rows of several shards, like `Rows` of one.

    A block, as long as the longest row, comes from one of them. Which one depends on its number alone, and each has its
    own stream of rows in its own order: a change of one leaves the others as they are.

    Args:
        shares: Of all tokens, for each of the shards; together 1.
        seed: Decides the orders and what is rearranged.
        phases: Lengths of rows, in order, the first from token 0.
        infilling: How documents are rearranged, or `None` for not at all.

    Raises:
        DataError: As `Rows`.
        SettingsError: As `Rows`, or if the shares do not sum to 1.
    """

    def __init__(
        self,
        shards: Sequence[Documents],
        shares: Sequence[float],
        *,
        seed: int,
        phases: Sequence[Phase],
        infilling: Infilling | None,
    ) -> None:
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise SettingsError(f"shares of shards are {list(shares)}; let each be above 0 and all together 1")
        self.seed = seed
        self.block_tokens = max(phase.row_tokens for phase in phases)
        self._counts = _apportion(shares, PERIOD)
        self._order = lru_cache(maxsize=4)(self._make_order)
        self.streams = [
            Rows(
                documents,
                seed=seed + number,
                phases=[
                    Phase(self._count(phase.start // self.block_tokens, number) * self.block_tokens, phase.row_tokens)
                    for phase in phases
                ],
                infilling=infilling,
            )
            for number, documents in enumerate(shards)
        ]
        self.phases = tuple(phases)

    def find_row_tokens(self, consumed: int) -> int:
        """As `Rows.find_row_tokens`."""
        return max(
            (phase for phase in self.phases if phase.start <= consumed), key=lambda phase: phase.start
        ).row_tokens

    def read(self, consumed: int, rows: int) -> Batch:
        """As `Rows.read`."""
        row_tokens = self.find_row_tokens(consumed)
        parts = []
        for row in range(rows):
            block, within = divmod(consumed + row * row_tokens, self.block_tokens)
            number = int(self._order(block // PERIOD)[block % PERIOD])
            parts.append(self.streams[number].read(self._count(block, number) * self.block_tokens + within, 1))
        return Batch(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("input_ids", "position_ids", "labels")
            )
        )

    def count_epochs(self, consumed: int) -> float:
        """Epochs, with their fraction, of the shards whose documents were seen most often."""
        block = consumed // self.block_tokens
        return max(
            stream.count_epochs(self._count(block, number) * self.block_tokens)
            for number, stream in enumerate(self.streams)
        )

    def _count(self, block: int, number: int) -> int:
        """Blocks of one of them before a block of all."""
        period, within = divmod(block, PERIOD)
        return period * int(self._counts[number]) + int((self._order(period)[:within] == number).sum())

    def _make_order(self, period: int) -> NDArray[np.int64]:
        numbers = np.repeat(np.arange(len(self._counts)), self._counts)
        return np.random.default_rng([self.seed, period, PERIOD]).permutation(numbers)


def _apportion(shares: Sequence[float], places: int) -> NDArray[np.int64]:
    """Integers in the given proportion that sum to `places`, by largest remainder, none of them 0."""
    exact = np.array(shares) * places
    counts: NDArray[np.int64] = np.maximum(np.floor(exact), 1).astype(np.int64)
    for index in np.argsort(counts - exact)[: max(0, places - int(counts.sum()))]:
        counts[index] += 1
    counts[np.argmax(counts)] += places - int(counts.sum())
    return counts
