"""The order of documents in an epoch, which takes a few numbers per thousand documents in memory.

Documents are in chunks of 1,024, in stored order. In each epoch the chunks are shuffled and divided into pools that
fill about 2,048 blocks each; a block is as long as the longest row of the run. The documents of a pool are shuffled and
packed into rows, and the rows of a window of 64 pools are shuffled. An epoch is described by a few numbers per chunk,
and a row is found by packing its pool.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

CHUNK_DOCUMENTS = 1024
POOL_BLOCKS = 2048
POOL_CHUNKS = 32
POOLS_IN_TURN = 64
SUMMED_TOGETHER = 4096 * CHUNK_DOCUMENTS


class Lengths(Protocol):
    """Tokens per document: an array, or a class that reads them on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, documents: slice | NDArray[np.int64], /) -> NDArray[np.integer]: ...


@dataclass(frozen=True)
class Epoch:
    """One pass over all documents.

    Args:
        first_block: First block of the epoch in the run.
        chunks: Chunks in the order of this epoch, int64.
        pools: Pool p has the chunks from `pools[p]` to `pools[p + 1]`, int64, shape (pools + 1,).
        blocks: Blocks of the epoch before each pool, and in total, int64, shape (pools + 1,).
    """

    first_block: int
    chunks: NDArray[np.int64]
    pools: NDArray[np.int64]
    blocks: NDArray[np.int64]

    @property
    def end_block(self) -> int:
        """The first block of the next epoch."""
        return self.first_block + int(self.blocks[-1])

    def find_window(self, block: int) -> tuple[int, int]:
        """The window of a block, within which rows are shuffled: its first block and the one after its last."""
        first = self._find(block) // POOLS_IN_TURN * POOLS_IN_TURN
        last = min(first + POOLS_IN_TURN, len(self.pools) - 1)
        return self.first_block + int(self.blocks[first]), self.first_block + int(self.blocks[last])

    def find_pool(self, block: int) -> tuple[int, int, int]:
        """The pool of a block of the run, its first block and the one after its last."""
        pool = self._find(block)
        return pool, self.first_block + int(self.blocks[pool]), self.first_block + int(self.blocks[pool + 1])

    def _find(self, block: int) -> int:
        return int(np.searchsorted(self.blocks, block - self.first_block, side="right")) - 1

    def list_chunks(self, pool: int) -> NDArray[np.int64]:
        """The chunks of a pool."""
        return self.chunks[self.pools[pool] : self.pools[pool + 1]]


def sum_chunks(lengths: Lengths) -> NDArray[np.int64]:
    """Tokens per chunk, int64, shape (chunks,).

    Args:
        lengths: Tokens per document, shape (documents,). Pages of a mapped file are released after they were read.
    """
    found = []
    for first in range(0, len(lengths), SUMMED_TOGETHER):
        some = lengths[first : first + SUMMED_TOGETHER]
        found.append(np.add.reduceat(some, range(0, len(some), CHUNK_DOCUMENTS), dtype=np.int64))
        release(some)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def release(array: object) -> None:
    """Releases the pages of a mapped file, which otherwise count as memory of this process."""
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def shuffle_chunks(
    places: NDArray[np.int64],
    count_blocks: Callable[[NDArray[np.int64], int], int],
    *,
    first_block: int,
    pools: int,
    rng: np.random.Generator,
) -> Epoch:
    """Shuffles chunks and divides them into pools.

    Args:
        places: Positions that each chunk takes in rows, int64, shape (chunks,).
        count_blocks: Gives the number of blocks of a pool from its chunks and its first block in the run.
        pools: Number of pools; there may be fewer.
    """
    chunks = rng.permutation(len(places))
    ends = np.cumsum(places[chunks])
    borders = np.searchsorted(ends, ends[-1] * np.arange(1, pools) / pools)
    edges = np.unique(np.concatenate([[0], borders, [len(chunks)]]))
    blocks = [0]
    for start, stop in zip(edges.tolist(), edges[1:].tolist(), strict=False):
        blocks.append(blocks[-1] + count_blocks(chunks[start:stop], first_block + blocks[-1]))
    return Epoch(first_block, chunks, edges, np.array(blocks))
