"""Rows of documents, in an order that is a pure function of the seed and the tokens consumed so far.

In each epoch the documents are shuffled and laid end to end, each closed by the end-of-text token. That stream is cut
into blocks as long as the longest row of the run, and the blocks are shuffled again. Rows shorter than a block are
taken from many blocks in turn, so that the rows of a step come from different documents. There is no state to save: a
run resumes exactly, on any number of ranks, and where rows change their length no token is lost or doubled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SettingsError
from ..text.shards import Header
from .infilling import Infilling, place_cuts, rearrange_characters, rearrange_for_infilling

IGNORED = -100
SENTINELS = 3
BLOCKS_IN_TURN = 1024


class Documents(Protocol):
    """Documents that rows are cut out of: `TokenShards`, or another format's; `folder` names them in messages."""

    folder: Path
    header: Header

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, int64, shape (documents,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, document: int) -> NDArray[np.unsignedinteger]: ...


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
class Phase:
    """A part of a run with one length of rows.

    Args:
        start: First token of the run that belongs to it, a multiple of the longest row.
        row_tokens: Length of its rows, a divisor of the longest.
    """

    start: int
    row_tokens: int


@dataclass(frozen=True)
class Epoch:
    """One pass over all documents.

    Args:
        order: Documents in the order of this epoch, which the other fields of documents have too.
        ends: In tokens from the start of the epoch.
        blocks: In the order of this epoch.
        cuts: Start and end of the middle as fractions of the document, shape (documents, 2), sorted.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    blocks: NDArray[np.int64]
    is_infilling: NDArray[np.bool_]
    is_suffix_first: NDArray[np.bool_]
    cuts: NDArray[np.float64]


def describe_rows(lengths: NDArray[np.int64], row_tokens: int) -> tuple[float, float]:
    """Share of tokens that get into rows, and share of documents that the end of a row cuts, 0 to 1.

    Args:
        lengths: Tokens of each document in their order on disk, int64, shape (documents,).
    """
    ends = np.cumsum(lengths + 1)
    used = int(ends[-1]) // row_tokens * row_tokens
    is_cut = (ends - lengths - 1) // row_tokens != (ends - 1) // row_tokens
    return used / int(ends[-1]), float(is_cut.mean())


class Rows:
    """The endless stream of rows.

    Args:
        seed: Decides the order and what is rearranged.
        phases: Lengths of rows, in order, the first from token 0.
        infilling: How documents are rearranged, or `None` for not at all.

    Raises:
        DataError: If rearranging is asked for and the tokenizer has no sentinels, or the documents do not fill one
            row.
        SettingsError: If a phase does not begin, or its rows do not end, where a longest row does.
    """

    def __init__(self, shards: Documents, *, seed: int, phases: Sequence[Phase], infilling: Infilling | None) -> None:
        if infilling is not None and shards.header.sentinels is None:
            raise DataError(
                f"{shards.folder} was packed with a tokenizer without <fim_prefix>, <fim_middle> and <fim_suffix>; "
                "set infilling to null, or pack with another tokenizer"
            )
        self.shards = shards
        self.seed = seed
        self.phases = tuple(phases)
        self.infilling = infilling
        self.block_tokens = max(phase.row_tokens for phase in phases)
        for phase in phases:
            if phase.start % self.block_tokens or self.block_tokens % phase.row_tokens:
                raise SettingsError(
                    f"rows of {phase.row_tokens} tokens begin at token {phase.start}, but the longest rows have "
                    f"{self.block_tokens}; let all lengths and steps divide evenly"
                )
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self._first_blocks = [0]
        if not len(self._plan(0).blocks):
            raise DataError(
                f"{shards.folder} holds {int(self._plan(0).ends[-1])} tokens, too few for one row of "
                f"{self.block_tokens}; pack more documents or shorten the rows"
            )

    def find_row_tokens(self, consumed: int) -> int:
        """The length of rows after so many consumed tokens."""
        return self._find_phase(consumed)[1].row_tokens

    def read(self, consumed: int, rows: int) -> Batch:
        """Reads rows, all of one phase, from so many consumed tokens on; shape (rows, row_tokens)."""
        row_tokens = self.find_row_tokens(consumed)
        ids = np.empty((rows, row_tokens), np.int64)
        positions = np.empty_like(ids)
        labels = np.empty_like(ids)
        for row in range(rows):
            filled = 0
            for piece, is_start in self._pieces(*self._locate(consumed + row * row_tokens), row_tokens):
                place = slice(filled, filled + len(piece))
                ids[row, place] = labels[row, place] = piece
                positions[row, place] = np.arange(len(piece))
                if is_start:
                    labels[row, filled] = IGNORED
                filled += len(piece)
        return Batch(ids, positions, labels)

    def count_epochs(self, consumed: int) -> float:
        """How often the documents were seen after so many consumed tokens: epochs, with their fraction."""
        block = consumed // self.block_tokens
        epoch = self._find_epoch(block)
        return epoch + (block - self._first_blocks[epoch]) / len(self._plan(epoch).blocks)

    def _find_phase(self, consumed: int) -> tuple[int, Phase]:
        index = max(index for index, phase in enumerate(self.phases) if phase.start <= consumed)
        return index, self.phases[index]

    def _locate(self, consumed: int) -> tuple[int, int]:
        """The epoch of the row that begins after so many tokens, and its first token in the epoch's stream."""
        index, phase = self._find_phase(consumed)
        in_block = self.block_tokens // phase.row_tokens
        group, within = divmod((consumed - phase.start) // phase.row_tokens, BLOCKS_IN_TURN * in_block)
        blocks = BLOCKS_IN_TURN
        if index + 1 < len(self.phases):  # the last group of a phase ends with it
            left = (self.phases[index + 1].start - phase.start) // self.block_tokens - group * BLOCKS_IN_TURN
            blocks = min(blocks, left)
        part, place = divmod(within, blocks)
        block = phase.start // self.block_tokens + group * BLOCKS_IN_TURN + place
        epoch = self._find_epoch(block)
        shuffled = int(self._plan(epoch).blocks[block - self._first_blocks[epoch]])
        return epoch, shuffled * self.block_tokens + part * phase.row_tokens

    def _pieces(self, epoch: int, start: int, length: int) -> list[tuple[NDArray[np.int64], bool]]:
        plan = self._plan(epoch)
        pieces = []
        while length:
            place = int(np.searchsorted(plan.ends, start, side="right"))
            document = self._arrange(plan, place)
            skipped = start - (int(plan.ends[place]) - len(document))
            piece = document[skipped : skipped + length]
            pieces.append((piece, skipped == 0))
            start += len(piece)
            length -= len(piece)
        return pieces

    def _arrange(self, plan: Epoch, place: int) -> NDArray[np.int64]:
        tokens = self.shards[int(plan.order[place])].astype(np.int64)
        sentinels = self.shards.header.sentinels
        if plan.is_infilling[place] and sentinels is not None:
            suffix_first = bool(plan.is_suffix_first[place])
            cuts = (float(plan.cuts[place][0]), float(plan.cuts[place][1]))
            codec = self.infilling.codec if self.infilling else None
            if codec is None:
                middle = place_cuts(cuts, len(tokens))
                tokens = rearrange_for_infilling(tokens, middle, suffix_first=suffix_first, sentinels=sentinels)
            else:
                tokens = rearrange_characters(tokens, cuts, codec, suffix_first=suffix_first, sentinels=sentinels)
        return np.append(tokens, self.shards.header.end_of_text)

    def _find_epoch(self, block: int) -> int:
        while self._first_blocks[-1] <= block:
            epoch = len(self._first_blocks) - 1
            self._first_blocks.append(self._first_blocks[-1] + len(self._plan(epoch).blocks))
        return int(np.searchsorted(self._first_blocks, block, side="right")) - 1

    def _make_plan(self, epoch: int) -> Epoch:
        rng = np.random.default_rng([self.seed, epoch])
        documents = len(self.shards)
        order = rng.permutation(documents)
        rate, spm_rate = (self.infilling.rate, self.infilling.spm_rate) if self.infilling else (0.0, 0.0)
        is_infilling = rng.random(documents) < rate
        is_suffix_first = rng.random(documents) < spm_rate
        cuts = np.sort(rng.random((documents, 2)), axis=1)
        ends = np.cumsum(self.shards.lengths[order] + 1 + SENTINELS * is_infilling)
        # Tokens that do not fill a block are dropped, other ones in each epoch.
        blocks = rng.permutation(int(ends[-1]) // self.block_tokens)
        return Epoch(order, ends, blocks, is_infilling, is_suffix_first, cuts)
