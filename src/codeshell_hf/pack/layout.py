"""Decides which pieces of documents are in which row: a pure function of the seed and the tokens consumed so far."""

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
    """A phase of a run, with one row length.

    Args:
        start: First token of the phase in the run, a multiple of the longest row.
        row_tokens: Length of its rows, a divisor of the longest row.
    """

    start: int
    row_tokens: int


@dataclass(frozen=True)
class PoolPart:
    """The blocks of a pool that are in one phase; their rows are packed together.

    Args:
        epoch: Number of the epoch.
        pool: Number of the pool in the epoch.
        first: First block of the part in its pool.
        last: The block after its last.
        row_tokens: Length of its rows.
    """

    epoch: int
    pool: int
    first: int
    last: int
    row_tokens: int


class RowLayout:
    """Finds the rows of a run, in a time that does not depend on the number of documents.

    Args:
        lengths: Tokens per document, shape (documents,); may be memory-mapped.
        seed: Decides the order, and which pieces are rearranged.
        phases: Row lengths in order, the first from token 0.

    Raises:
        SettingsError: If the start or the row length of a phase does not divide evenly into longest rows.
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
        """The row length after a number of consumed tokens."""
        return self.phases[self._find_phase(consumed // self.block_tokens)].row_tokens

    def count_epochs(self, consumed: int) -> float:
        """Epochs, with a fraction, after a number of consumed tokens."""
        block = consumed // self.block_tokens
        number, epoch = self._find_epoch(block)
        return number + (block - epoch.first_block) / int(epoch.blocks[-1])

    def locate(self, consumed: int) -> tuple[PoolPart, int]:
        """The part of the row that starts after a number of consumed tokens, and the row's number in the part."""
        block = consumed // self.block_tokens
        phase = self._find_phase(block)
        number, epoch = self._find_epoch(block)
        row_tokens = self.phases[phase].row_tokens
        in_block = self.block_tokens // row_tokens
        # Rows are shuffled within the part of a window that is in this phase.
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
        # If phases meet within a pool, its documents are divided in proportion to their blocks.
        places = int(spans[3].sum())
        spans = select(spans, places * part.first // blocks, places * part.last // blocks)
        rows = (part.last - part.first) * self.block_tokens // part.row_tokens
        return pack(spans, rows, part.row_tokens, self.rules, self.make_rng("pieces", part))

    def make_rng(self, kind: str, part: PoolPart) -> np.random.Generator:
        """An rng for one purpose and part."""
        return self._make_rng(kind, part.epoch, part.pool, part.first, part.row_tokens)

    def list_documents(self, epoch: int, pool: int) -> Spans:
        """The documents of a pool, shuffled and not cut."""
        first = self.plan(epoch).list_chunks(pool)[:, None] * CHUNK_DOCUMENTS
        documents = (first + np.arange(CHUNK_DOCUMENTS)).ravel()
        documents = self._make_rng("pool", epoch, pool).permutation(documents[documents < len(self.lengths)])
        sizes = self.lengths[documents].astype(np.int64) + 1 + self.rules.opening
        release(self.lengths)
        return documents, np.zeros_like(sizes), sizes, sizes

    def _find_phase(self, block: int) -> int:
        return bisect_right(self._starts, block) - 1

    def _clip(self, phase: int, first: int, last: int) -> tuple[int, int]:
        """The intersection of a range of blocks with a phase."""
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
        # The kind separates keys of different lengths: numpy treats [1] and [1, 0] as the same seed.
        return np.random.default_rng([self.seed, KINDS.index(kind), *key])


def describe_rows(
    lengths: NDArray[np.integer], row_tokens: int, rules: PackingRules | None = None
) -> tuple[float, float]:
    """Share of positions that are filled, and share of documents that are cut although they fit a row.

    Both are measured on the first pools. Sentinels count as filled; positions reserved for tokens that cuts may add
    count as empty.

    Args:
        lengths: Tokens per document, shape (documents,).
        rules: `None` for the default, without fill-in-the-middle.
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
