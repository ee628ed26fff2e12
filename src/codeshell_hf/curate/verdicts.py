"""A one-byte verdict for every document, in the order of the parts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEPT = "kept"


class Verdicts:
    """The reason of every dropped document; the first one stays. `sizes` are the documents of each part.

    A document's key is the number of its part and its row there, 32 bits each.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._parts = [np.zeros(size, np.uint8) for size in sizes]
        self.reasons: list[str] = [KEPT]

    def drop(self, keys: "NDArray[np.int64] | Sequence[int]", reason: str) -> int:
        """Drops documents that are not dropped yet, and returns their number."""
        code = self._code(reason)
        keys = np.asarray(keys, np.int64)
        dropped = 0
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for part in np.unique(ordered >> 32).tolist():
            rows = ordered[np.searchsorted(ordered, part << 32) : np.searchsorted(ordered, (part + 1) << 32)]
            rows = rows & 0xFFFFFFFF
            codes = self._parts[part]
            staying = rows[codes[rows] == 0]
            codes[staying] = code
            dropped += len(staying)
        return dropped

    def drop_each(self, keys: Sequence[int], reasons: Iterable[str | None]) -> None:
        """Drops documents, each for its own reason; those with `None` stay."""
        by_reason: dict[str, list[int]] = {}
        for key, reason in zip(keys, reasons, strict=True):
            if reason is not None:
                by_reason.setdefault(reason, []).append(key)
        for reason, dropped in by_reason.items():
            self.drop(dropped, reason)

    def _code(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def select(self, part: int) -> NDArray[np.uint8]:
        """Codes of a part's documents: indices of `reasons`, 0 for those that stay; uint8, shape (D,)."""
        return self._parts[part]

    def count_kept(self) -> int:
        """The number of documents that stay."""
        return int(sum((codes == 0).sum() for codes in self._parts))

    def save(self, folder: Path) -> None:
        """Writes one file per part, for the workers."""
        folder.mkdir(parents=True, exist_ok=True)
        for part, codes in enumerate(self._parts):
            np.save(folder / f"{part:05d}.npy", codes)
