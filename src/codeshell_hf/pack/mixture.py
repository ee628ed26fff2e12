"""A weighted mixture of several shards, in an order that is a pure function of the seed and the tokens consumed."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .infilling import Infilling
from .layout import Phase
from .rows import Batch, Documents, Rows
from .settings import RowSettings

# Shares are exact over this many blocks.
PERIOD = 1024


class Mixture:
    """The endless stream of rows from several shards, with the interface of `Rows`.

    Each block of tokens, as long as the longest row, comes from one of the shards, chosen by the block's number. Each
    shard has its own stream of rows in its own order, which does not change with the other shards.

    Args:
        shares: For each phase, the shares of the shards in its tokens, with a sum of 1.
        seed: Decides the orders and which pieces are rearranged.
        phases: Row lengths in order, the first from token 0.
        infilling: Fill-in-the-middle, or `None` for none.
        settings: Packing of documents into rows; `None` for the default.

    Raises:
        DataError: As `Rows`.
        SettingsError: As `Rows`, or if the shares do not sum to 1.
    """

    def __init__(
        self,
        shards: Sequence[Documents],
        shares: Sequence[Sequence[float]],
        *,
        seed: int,
        phases: Sequence[Phase],
        infilling: Infilling | None,
        settings: RowSettings | None = None,
    ) -> None:
        for some in shares:
            if min(some) < 0 or some[0] <= 0 or abs(sum(some) - 1) > 1e-6:
                raise SettingsError(f"shares of shards are {list(some)}; let the first be above 0 and all together 1")
        self.seed = seed
        self.phases = tuple(phases)
        self.block_tokens = max(phase.row_tokens for phase in phases)
        self._starts = [phase.start // self.block_tokens for phase in phases]
        self._counts = [_apportion(some, PERIOD) for some in shares]
        self._order = lru_cache(maxsize=4)(self._make_order)
        self.streams = [
            Rows(
                documents,
                seed=seed + number,
                phases=[
                    Phase(self._count(start, number) * self.block_tokens, phase.row_tokens)
                    for start, phase in zip(self._starts, phases, strict=True)
                ],
                infilling=infilling,
                settings=settings,
            )
            for number, documents in enumerate(shards)
        ]

    def find_row_tokens(self, consumed: int) -> int:
        """As `Rows.find_row_tokens`."""
        return self.phases[self._find_phase(consumed // self.block_tokens)].row_tokens

    def read(self, consumed: int, rows: int) -> Batch:
        """As `Rows.read`."""
        row_tokens = self.find_row_tokens(consumed)
        parts = []
        for row in range(rows):
            block, within = divmod(consumed + row * row_tokens, self.block_tokens)
            phase = self._find_phase(block)
            period, place = divmod(block - self._starts[phase], PERIOD)
            number = int(self._order(phase, period)[place])
            parts.append(self.streams[number].read(self._count(block, number) * self.block_tokens + within, 1))
        return Batch(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("input_ids", "position_ids", "labels")
            )
        )

    def count_epochs(self, consumed: int) -> float:
        """Epochs so far, with a fraction, of the shards that were repeated most."""
        block = consumed // self.block_tokens
        return max(
            stream.count_epochs(self._count(block, number) * self.block_tokens)
            for number, stream in enumerate(self.streams)
        )

    def _find_phase(self, block: int) -> int:
        return bisect_right(self._starts, block) - 1

    def _count(self, block: int, number: int) -> int:
        """Number of blocks from one of the shards before a block of the mixture."""
        counted = 0
        for phase, start in enumerate(self._starts):
            stop = min([block, *self._starts[phase + 1 : phase + 2]])
            period, within = divmod(max(stop - start, 0), PERIOD)
            counted += period * int(self._counts[phase][number])
            counted += int((self._order(phase, period)[:within] == number).sum())
        return counted

    def _make_order(self, phase: int, period: int) -> NDArray[np.int64]:
        numbers = np.repeat(np.arange(len(self._counts[phase])), self._counts[phase])
        return np.random.default_rng([self.seed, phase, period, PERIOD]).permutation(numbers)


def _apportion(shares: Sequence[float], places: int) -> NDArray[np.int64]:
    """Integers in proportion to shares that sum to `places`, by largest remainder; 0 only for a share of 0."""
    exact = np.array(shares) * places
    counts: NDArray[np.int64] = np.maximum(np.floor(exact), exact > 0).astype(np.int64)
    for index in np.argsort(counts - exact)[: max(0, places - int(counts.sum()))]:
        counts[index] += 1
    counts[np.argmax(counts)] += places - int(counts.sum())
    return counts
