"""The held-out documents that models are compared on, read from token shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .shards import TokenShards
from .token_files import TokenArray


@dataclass(frozen=True)
class HeldOut:
    """Documents of the held-out split: all in `shards`, and the indices of those that are scored."""

    shards: TokenShards
    chosen: Sequence[int]

    @property
    def bytes(self) -> int:
        """Bytes of the scored documents in UTF-8."""
        return int(self.shards.bytes[list(self.chosen)].sum())

    @property
    def documents(self) -> list[tuple[str, TokenArray, int]]:
        """Language, ids of shape (T,) and bytes of each scored document."""
        shards = self.shards
        return [(shards.languages[index], shards[index], int(shards.bytes[index])) for index in self.chosen]


def read_held_out(shards: Path, *, max_bytes_per_language: int) -> HeldOut:
    """Reads the held-out split of `pack`'s output, and chooses documents up to a size for each language.

    Raises:
        DataError: If there is no such split.
    """
    split = TokenShards(shards / "held-out")
    sizes = split.bytes.tolist()
    return HeldOut(split, choose_evenly(split.languages, sizes, max_bytes_per_language=max_bytes_per_language))


def choose_evenly(languages: Sequence[str], sizes: Sequence[int], *, max_bytes_per_language: int) -> list[int]:
    """Indices of documents in order, without those that would take their language beyond the limit."""
    sums: dict[str, int] = {}
    chosen = []
    for index, (language, size) in enumerate(zip(languages, sizes, strict=True)):
        if sums.get(language, 0) + size <= max_bytes_per_language:
            sums[language] = sums.get(language, 0) + size
            chosen.append(index)
    return chosen
