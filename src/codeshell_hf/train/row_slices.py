"""Which positions of a row a rank computes, and which keys its queries see, under tensor and context parallelism.

B rows, T tokens of a row, C contexts, P tensors. A row is cut into 2 C chunks, of which context rank c computes c and
2 C - 1 - c: late positions see more keys than early ones, and so all ranks have about the same work. Outside of
attention and MLP, the ranks of a tensor group each have a part of these positions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .loss import IGNORED

Places = NDArray[np.int64]


@dataclass(frozen=True)
class KeyLengths:
    """The keys that a rank's queries see; a piece is what one chunk has of one document.

    Args:
        queries: Cumulative queries of the pieces, over the rank's positions of all rows, from 0, shape (N + 1,).
        keys: Cumulative keys of the pieces, from 0, shape (N + 1,); a piece's last query sees all of them.
        places: Of the keys, in the flattened rows, shape (keys[-1],).
    """

    queries: NDArray[np.int32]
    keys: NDArray[np.int32]
    places: Places


@dataclass(frozen=True)
class RowSlicer:
    """The positions of a rank among those that compute the same rows."""

    context_rank: int = 0
    contexts: int = 1
    tensor_rank: int = 0
    tensors: int = 1

    def find_spans(self, row_tokens: int) -> list[range]:
        """The chunks of a row in attention and MLP, in order."""
        if self.contexts == 1:
            return [range(row_tokens)]
        size = row_tokens // (2 * self.contexts)
        numbers = (self.context_rank, 2 * self.contexts - 1 - self.context_rank)
        return [range(number * size, (number + 1) * size) for number in numbers]

    def find_places(self, row_tokens: int) -> Places:
        """The positions in attention and MLP, shape (T / C,)."""
        return np.concatenate([np.arange(span.start, span.stop) for span in self.find_spans(row_tokens)])

    def find_own_places(self, row_tokens: int) -> Places:
        """The positions elsewhere, which no other rank has, shape (T / C / P,)."""
        return np.split(self.find_places(row_tokens), self.tensors)[self.tensor_rank]

    def list_own_places(self, row_tokens: int) -> list[Places]:
        """`find_own_places` of all ranks that compute the same rows, in their order."""
        return [
            RowSlicer(context, self.contexts, tensor, self.tensors).find_own_places(row_tokens)
            for context in range(self.contexts)
            for tensor in range(self.tensors)
        ]

    def find_order(self, row_tokens: int) -> Places:
        """Where each position of a row stands among those of the context ranks one after the other, shape (T,)."""
        ranks = [RowSlicer(rank, self.contexts) for rank in range(self.contexts)]
        return np.argsort(np.concatenate([rank.find_places(row_tokens) for rank in ranks]))

    def cut_targets(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next token of each own position, also where another rank has it, shape (B, T / C / P).

        Args:
            labels: Of whole rows, shape (B, T); -100 is not predicted.
        """
        following = np.full_like(labels, IGNORED)  # nothing follows the last position
        following[:, :-1] = labels[:, 1:]
        return np.ascontiguousarray(following[:, self.find_own_places(labels.shape[1])])

    def find_keys(self, position_ids: NDArray[np.int64]) -> KeyLengths:
        """The keys that the queries see: those of the same document up to the query.

        Args:
            position_ids: Of whole rows, shape (B, T); a document starts where they do not increase by one.
        """
        rows, row_tokens = position_ids.shape
        queries, keys, places = [0], [0], []
        for row in range(rows):
            steps = position_ids[row, 1:] != position_ids[row, :-1] + 1
            borders = [0, *(np.flatnonzero(steps) + 1).tolist(), row_tokens]
            for span in self.find_spans(row_tokens):
                first = int(np.searchsorted(borders, span.start, side="right")) - 1
                for start, end in zip(borders[first:], borders[first + 1 :], strict=False):
                    if start >= span.stop:
                        break
                    last = min(end, span.stop)
                    queries.append(queries[-1] + last - max(start, span.start))
                    keys.append(keys[-1] + last - start)
                    places.append(np.arange(start, last) + row * row_tokens)
        return KeyLengths(np.array(queries, np.int32), np.array(keys, np.int32), np.concatenate(places))
