"""Which pieces of documents are in which row: a pure function of the seed and of the tokens consumed so far."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from .order import CHUNK_DOCUMENTS, POOL_BLOCKS, POOL_CHUNKS, Epoch, Lengths, release, shuffle_chunks, sum_chunks
from .pieces import SENTINELS, PackingRules, Pieces, Spans, pack, select
from .settings import RowSettings

KINDS = ("chunks", "pool", "pieces", "window", "cuts")
POOLS_COUNTED = 4


@dataclass(frozen=True)
class Phase:
    """A part of a run with one length of rows.

    Args:
        start: First token of the run that belongs to it, a multiple of the longest row.
        row_tokens: Length of its rows, a divisor of the longest.
    """

    start: int
    row_tokens: int


@dataclass(frozen=True)
class PoolPart:
    """Rows of one length that are packed together: those of a pool, as far as it lies in one phase.

    Args:
        pool: Of the epoch.
        first: First block of the part in its pool.
        last: The one after its last.
        row_tokens: Length of its rows.
    """

    epoch: int
    pool: int
    first: int
    last: int
    row_tokens: int


class RowLayout:
    """Finds the rows of a run in constant time, whatever the number of documents.

    Args:
        lengths: Tokens of each document, shape (documents,); they may be mapped from a file.
        seed: Decides the order, and which pieces are rearranged.
        phases: Lengths of rows, in order, the first from token 0.

    Raises:
        SettingsError: If a phase does not begin, or its rows do not end, where a longest row does.
    """

    def __init__(self, lengths: Lengths, rules: PackingRules, *, seed: int, phases: Sequence[Phase]) -> None:
        self.lengths = lengths
        self.rules = rules
        self.seed = seed
        self.phases = tuple(phases)
        self.block_tokens = max(phase.row_tokens for phase in phases)
        for phase in phases:
            if phase.start % self.block_tokens or self.block_tokens % phase.row_tokens:
                raise SettingsError(
                    f"rows of {phase.row_tokens} tokens begin at token {phase.start}, but the longest rows have "
                    f"{self.block_tokens}; let all lengths and steps divide evenly"
                )
        chunks = -(-len(lengths) // CHUNK_DOCUMENTS)
        self._documents = np.full(chunks, CHUNK_DOCUMENTS)
        self._documents[-1:] -= chunks * CHUNK_DOCUMENTS - len(lengths)
        self._places = sum_chunks(lengths) + self._documents * (1 + rules.opening)
        self.places = int(self._places.sum())
        self._starts = [phase.start // self.block_tokens for phase in phases]
        self._first_blocks = [0]
        self.plan = lru_cache(maxsize=2)(self._plan_epoch)
        self._order = lru_cache(maxsize=2)(self._shuffle_window)

    def find_row_tokens(self, consumed: int) -> int:
        """The length of rows after so many consumed tokens."""
        return self.phases[self._find_phase(consumed // self.block_tokens)].row_tokens

    def count_epochs(self, consumed: int) -> float:
        """How often the documents were seen after so many consumed tokens: epochs, with their fraction."""
        block = consumed // self.block_tokens
        number, epoch = self._find_epoch(block)
        return number + (block - epoch.first_block) / int(epoch.blocks[-1])

    def locate(self, consumed: int) -> tuple[PoolPart, int]:
        """The part that the row is in which begins after so many consumed tokens, and its number in the part."""
        block = consumed // self.block_tokens
        phase = self._find_phase(block)
        number, epoch = self._find_epoch(block)
        row_tokens = self.phases[phase].row_tokens
        in_block = self.block_tokens // row_tokens
        # Rows are shuffled within a window, as far as it lies in this phase.
        first, last = self._clip(phase, *epoch.find_window(block))
        order = self._order(number, first, (last - first) * in_block)
        place, within = divmod(int(order[(consumed - first * self.block_tokens) // row_tokens]), in_block)
        pool, start, stop = epoch.find_pool(first + place)
        begin, end = self._clip(phase, start, stop)
        return PoolPart(number, pool, begin - start, end - start, row_tokens), (
            first + place - begin
        ) * in_block + within

    def pack(self, part: PoolPart) -> Pieces:
        """Packs the rows of a part."""
        spans = self.list_documents(part.epoch, part.pool)
        blocks = int(np.diff(self.plan(part.epoch).blocks)[part.pool])
        # Where phases meet in a pool, each has its documents in proportion to its blocks.
        places = int(spans[3].sum())
        spans = select(spans, places * part.first // blocks, places * part.last // blocks)
        rows = (part.last - part.first) * self.block_tokens // part.row_tokens
        return pack(spans, rows, part.row_tokens, self.rules, self.make_rng("pieces", part))

    def make_rng(self, kind: str, part: PoolPart) -> np.random.Generator:
        """A generator for something about a part."""
        return self._make_rng(kind, part.epoch, part.pool, part.first, part.row_tokens)

    def list_documents(self, epoch: int, pool: int) -> Spans:
        """The documents of a pool, shuffled, each from its first position to its last."""
        first = self.plan(epoch).list_chunks(pool)[:, None] * CHUNK_DOCUMENTS
        documents = (first + np.arange(CHUNK_DOCUMENTS)).ravel()
        documents = self._make_rng("pool", epoch, pool).permutation(documents[documents < len(self.lengths)])
        sizes = self.lengths[documents].astype(np.int64) + 1 + self.rules.opening
        release(self.lengths)
        return documents, np.zeros_like(sizes), sizes, sizes

    def _find_phase(self, block: int) -> int:
        return bisect_right(self._starts, block) - 1

    def _clip(self, phase: int, first: int, last: int) -> tuple[int, int]:
        """As much of some blocks as lies in a phase."""
        starts = self._starts[phase : phase + 2]
        return max(first, starts[0]), min([last, *starts[1:]])

    def _find_epoch(self, block: int) -> tuple[int, Epoch]:
        while self._first_blocks[-1] <= block:
            self._first_blocks.append(self.plan(len(self._first_blocks) - 1).end_block)
        number = bisect_right(self._first_blocks, block) - 1
        return number, self.plan(number)

    def _plan_epoch(self, epoch: int) -> Epoch:
        pools = round(self.places / (POOL_BLOCKS * self.block_tokens))
        return shuffle_chunks(
            self._places,
            self._count_blocks,
            first_block=self._first_blocks[epoch],
            pools=max(pools, len(self._places) // POOL_CHUNKS, 1),
            rng=self._make_rng("chunks", epoch),
        )

    def _count_blocks(self, chunks: NDArray[np.int64], block: int) -> int:
        return self.rules.count_blocks(
            int(self._places[chunks].sum()),
            int(self._documents[chunks].sum()),
            row_tokens=self.phases[self._find_phase(block)].row_tokens,
            block_tokens=self.block_tokens,
        )

    def _shuffle_window(self, epoch: int, first: int, rows: int) -> NDArray[np.int64]:
        return self._make_rng("window", epoch, first, rows).permutation(rows)

    def _make_rng(self, kind: str, *key: int) -> np.random.Generator:
        # The kind tells keys of several lengths apart: numpy takes [1] and [1, 0] for the same seed.
        return np.random.default_rng([self.seed, KINDS.index(kind), *key])


def describe_rows(
    lengths: NDArray[np.integer], row_tokens: int, rules: PackingRules | None = None
) -> tuple[float, float]:
    """Share of places that are filled, and of documents that fit a row those that are cut, in the first pools.

    Sentinels fill places; those that are kept for what cuts in a text may add count as empty.

    Args:
        lengths: Tokens of each document, shape (documents,).
        rules: `None` is the default way, without infilling.
    """
    rules = rules or PackingRules(RowSettings(), 0.0, 0)
    layout = RowLayout(lengths, rules, seed=0, phases=[Phase(0, row_tokens)])
    epoch = layout.plan(0)
    filled = places = cut = fitting = 0
    for pool, blocks in enumerate(np.diff(epoch.blocks)[:POOLS_COUNTED].tolist()):
        pieces = layout.pack(PoolPart(0, pool, 0, blocks, row_tokens))
        documents, _, _, sizes = layout.list_documents(0, pool)
        filled += int(sizes.sum())
        is_last = pieces.stops == lengths[pieces.documents] + 1 + rules.opening
        extra = SENTINELS + ~is_last - rules.opening * (pieces.starts == 0)
        filled += int((extra * pieces.is_infilling).sum())
        places += blocks * row_tokens
        numbers, counts = np.unique(pieces.documents, return_counts=True)
        fitting += int((sizes <= row_tokens).sum())
        cut += int(np.isin(documents[sizes <= row_tokens], numbers[counts > 1]).sum())
    return filled / places, cut / max(fitting, 1)
