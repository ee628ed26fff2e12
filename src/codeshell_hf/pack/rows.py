"""Rows of documents, in an order that is a pure function of the seed and the tokens consumed so far.

Documents are laid end to end, shuffled anew in each epoch, each closed by the end-of-text token; rows are cut out of
that endless stream. So there is no state to save, a run resumes exactly, on any number of ranks, and rows may change
their length on the way.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .infilling import Infilling, rearrange_for_infilling
from .shards import TokenShards

IGNORED = -100
SENTINELS = 3


@dataclass(frozen=True)
class Batch:
    """Rows ready for the model.

    Args:
        input_ids: Shape (B, T), int64.
        position_ids: Shape (B, T), int64; they restart with each document, which keeps documents apart.
        labels: Shape (B, T), int64; -100 for the first token of a document, which nothing before it predicts.
    """

    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """One pass over all documents.

    Args:
        order: Documents in the order of this epoch.
        ends: Where each ends, in tokens from the start of the epoch.
        is_infilling: Whether the n-th document is rearranged.
        is_suffix_first: Whether its suffix then comes first.
        cuts: Where its middle starts and ends, as shares of it, shape (documents, 2), sorted.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    is_infilling: NDArray[np.bool_]
    is_suffix_first: NDArray[np.bool_]
    cuts: NDArray[np.float64]


class Rows:
    """The endless stream of rows.

    Args:
        shards: The documents.
        seed: Decides the order and what is rearranged.
        infilling: How documents are rearranged, or `None` for not at all.

    Raises:
        DataError: If rearranging is asked for and the tokenizer has no sentinels.
    """

    def __init__(self, shards: TokenShards, *, seed: int, infilling: Infilling | None) -> None:
        if infilling is not None and shards.header.sentinels is None:
            raise DataError(
                f"{shards.folder} was packed with a tokenizer without <fim_prefix>, <fim_middle> and <fim_suffix>; "
                "set infilling to null, or pack with another tokenizer"
            )
        self.shards = shards
        self.seed = seed
        self.infilling = infilling
        self._starts = [0]
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def read(self, consumed: int, rows: int, row_tokens: int) -> Batch:
        """Cuts rows out of the stream.

        Args:
            consumed: Tokens of the stream before the first row.
            rows: How many.
            row_tokens: Length of each.

        Returns:
            A batch of shape (rows, row_tokens).
        """
        ids = np.empty((rows, row_tokens), np.int64)
        positions = np.empty_like(ids)
        labels = np.empty_like(ids)
        for row in range(rows):
            filled = 0
            for piece, is_start in self._pieces(consumed + row * row_tokens, row_tokens):
                place = slice(filled, filled + len(piece))
                ids[row, place] = labels[row, place] = piece
                positions[row, place] = np.arange(len(piece))
                if is_start:
                    labels[row, filled] = IGNORED
                filled += len(piece)
        return Batch(ids, positions, labels)

    def count_epochs(self, consumed: int) -> float:
        """How often the documents were seen.

        Args:
            consumed: Tokens of the stream.

        Returns:
            Epochs, with their fraction.
        """
        epoch = self._find_epoch(consumed)
        return epoch + (consumed - self._starts[epoch]) / float(self._plan(epoch).ends[-1])

    def _pieces(self, start: int, length: int) -> list[tuple[NDArray[np.int64], bool]]:
        pieces = []
        while length:
            epoch = self._find_epoch(start)
            plan = self._plan(epoch)
            offset = start - self._starts[epoch]
            place = int(np.searchsorted(plan.ends, offset, side="right"))
            document = self._arrange(plan, place)
            skipped = offset - (int(plan.ends[place]) - len(document))
            piece = document[skipped : skipped + length]
            pieces.append((piece, skipped == 0))
            start += len(piece)
            length -= len(piece)
        return pieces

    def _arrange(self, plan: Epoch, place: int) -> NDArray[np.int64]:
        tokens = self.shards[int(plan.order[place])].astype(np.int64)
        sentinels = self.shards.header.sentinels
        if plan.is_infilling[place] and sentinels is not None:
            # A cut falls before, between or behind tokens: T + 1 places.
            start, end = (plan.cuts[place] * (len(tokens) + 1)).astype(int)
            tokens = rearrange_for_infilling(
                tokens, (start, end), suffix_first=bool(plan.is_suffix_first[place]), sentinels=sentinels
            )
        return np.append(tokens, self.shards.header.end_of_text)

    def _find_epoch(self, consumed: int) -> int:
        while self._starts[-1] <= consumed:
            self._starts.append(self._starts[-1] + int(self._plan(len(self._starts) - 1).ends[-1]))
        return int(np.searchsorted(self._starts, consumed, side="right")) - 1

    def _make_plan(self, epoch: int) -> Epoch:
        chance = np.random.default_rng([self.seed, epoch])
        documents = len(self.shards)
        order = chance.permutation(documents)
        rate, spm_rate = (self.infilling.rate, self.infilling.spm_rate) if self.infilling else (0.0, 0.0)
        is_infilling = chance.random(documents) < rate
        is_suffix_first = chance.random(documents) < spm_rate
        cuts = np.sort(chance.random((documents, 2)), axis=1)
        lengths = self.shards.lengths[order] + 1 + SENTINELS * is_infilling
        return Epoch(order, np.cumsum(lengths), is_infilling, is_suffix_first, cuts)
