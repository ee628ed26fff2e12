"""Packed rows of documents, in an order that is a pure function of the seed and the tokens consumed so far.

Documents are cut into pieces, and pieces are packed into rows (`layout`). Fill-in-the-middle rearranges a piece, so its
prefix, middle and suffix are in one row. Pieces are kept apart by `position_ids`, which restart with each. There is no
state to save: a run resumes exactly, on any number of ranks, and changes of the row length lose or repeat no token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..text.shards import Header
from .infilling import Draws, Infilling, draw_cuts, rearrange
from .layout import Phase, PoolPart, RowLayout
from .order import POOLS_IN_TURN, Lengths
from .pieces import PackingRules, Pieces
from .settings import RowSettings

IGNORED = -100


class Documents(Protocol):
    """Tokenized documents: `TokenShards`, or another format; messages name `folder`."""

    folder: Path
    header: Header

    @property
    def lengths(self) -> Lengths:
        """Tokens per document, shape (documents,)."""

    @property
    def languages(self) -> Sequence[str]:
        """Language of each document, as curation names it."""

    def __len__(self) -> int: ...

    def __getitem__(self, document: int) -> NDArray[np.unsignedinteger]: ...

    def read(self, document: int, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Tokens `start` to `stop` of a document, shape (stop - start,)."""


@dataclass(frozen=True)
class Batch:
    """Rows ready for the model.

    Args:
        input_ids: Shape (B, T), int64; padded with end-of-text tokens.
        position_ids: Shape (B, T), int64; they restart with each piece, which keeps pieces apart in attention.
        labels: Shape (B, T), int64; -100 for the first token of a piece, which no token of the piece predicts, and for
            padding.
    """

    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    labels: NDArray[np.int64]


class Rows:
    """The endless stream of rows.

    Args:
        shards: Tokenized documents.
        seed: Decides the order and which pieces are rearranged.
        phases: Row lengths in order, the first from token 0.
        infilling: Fill-in-the-middle, or `None` for none.
        settings: Packing of documents into rows; `None` for the default.

    Raises:
        DataError: If `infilling` is set and the tokenizer has no sentinels, or the documents do not fill one row.
        SettingsError: If the start or the row length of a phase does not divide evenly into longest rows.
    """

    def __init__(
        self,
        shards: Documents,
        *,
        seed: int,
        phases: Sequence[Phase],
        infilling: Infilling | None,
        settings: RowSettings | None = None,
    ) -> None:
        if infilling is not None and shards.header.sentinels is None:
            raise DataError(
                f"{shards.folder} was packed with a tokenizer without <fim_prefix>, <fim_middle> and <fim_suffix>; "
                "set infilling to null, or pack with another tokenizer"
            )
        self.shards = shards
        self.infilling = infilling
        rate, max_added = (infilling.settings.rate, infilling.max_added) if infilling else (0.0, 0)
        rules = PackingRules(settings or RowSettings(), rate, max_added)
        self.layout = RowLayout(shards.lengths, rules, seed=seed, phases=phases)
        if self.layout.places < self.layout.block_tokens:
            raise DataError(
                f"{shards.folder} has {self.layout.places} tokens, too few for one row of "
                f"{self.layout.block_tokens}; pack more documents or shorten the rows"
            )
        self._end = np.array([shards.header.end_of_text], np.int64)
        # Caches the packed parts of a window while its rows are read.
        self._pack = lru_cache(maxsize=POOLS_IN_TURN + 1)(self._pack_part)

    def find_row_tokens(self, consumed: int) -> int:
        """As `RowLayout.find_row_tokens`."""
        return self.layout.find_row_tokens(consumed)

    def count_epochs(self, consumed: int) -> float:
        """As `RowLayout.count_epochs`."""
        return self.layout.count_epochs(consumed)

    def read(self, consumed: int, rows: int) -> Batch:
        """Reads consecutive rows of one phase after a number of consumed tokens; shape (rows, row_tokens)."""
        row_tokens = self.find_row_tokens(consumed)
        ids = np.full((rows, row_tokens), self.shards.header.end_of_text, np.int64)
        positions = np.empty_like(ids)
        labels = np.full_like(ids, IGNORED)
        counted = np.arange(row_tokens)
        for row in range(rows):
            part, number = self.layout.locate(consumed + row * row_tokens)
            pieces, draws = self._pack(part)
            numbers = range(pieces.offsets[number], pieces.offsets[number + 1])
            places = [self._count_places(pieces, piece) for piece in numbers]
            filled, spare = 0, row_tokens - sum(places)
            for piece, planned in zip(numbers, places, strict=True):
                tokens = self._read_piece(pieces, draws, piece, spare)
                spare += planned - len(tokens)
                stop = filled + len(tokens)
                ids[row, filled:stop] = tokens
                positions[row, filled:stop] = counted[: len(tokens)]
                labels[row, filled + 1 : stop] = tokens[1:]
                filled = stop
            positions[row, filled:] = counted[: row_tokens - filled]
        return Batch(ids, positions, labels)

    def _pack_part(self, part: PoolPart) -> tuple[Pieces, Draws]:
        pieces = self.layout.pack(part)
        return pieces, draw_cuts(self.infilling, len(pieces.documents), self.layout.make_rng("cuts", part))

    def _count_places(self, pieces: Pieces, piece: int) -> int:
        """The number of positions reserved for a piece in its row."""
        document, start, stop = int(pieces.documents[piece]), int(pieces.starts[piece]), int(pieces.stops[piece])
        if not pieces.is_infilling[piece]:
            return stop - start
        rules = self.layout.rules
        is_last = stop == int(self.shards.lengths[document : document + 1][0]) + rules.opening + 1
        return stop - start + rules.count_extra(start, is_last=is_last)

    def _read_piece(self, pieces: Pieces, draws: Draws, piece: int, spare: int) -> NDArray[np.integer]:
        """The tokens of a piece with end-of-text tokens, rearranged if that was drawn, shape (T,).

        Args:
            spare: Positions of the row that are not reserved for any piece.
        """
        document, start, stop = int(pieces.documents[piece]), int(pieces.starts[piece]), int(pieces.stops[piece])
        header, opening = self.shards.header, self.layout.rules.opening
        length = int(self.shards.lengths[document : document + 1][0])
        content = self.shards.read(document, max(start - opening, 0), min(stop - opening, length))
        end = self._end
        if self.infilling is not None and header.sentinels is not None and pieces.is_infilling[piece]:
            language = self.shards.languages[document]
            max_added = self.infilling.max_added + spare
            arranged = rearrange(
                content.astype(np.int64), draws, piece, self.infilling, language, header.sentinels, max_added
            )
            return np.concatenate([arranged, end])
        is_first, is_last = opening and start == 0, stop == length + opening + 1
        return np.concatenate([end[:is_first], content, end[:is_last]])
