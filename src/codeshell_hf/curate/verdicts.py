"""One verdict a document, a byte each: what was decided of every document, in the order of the parts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEPT = "kept"


class Verdicts:
    """Reasons by document. A document that fell once stays fallen for that reason.

    Args:
        sizes: Documents of each part.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._parts = [np.zeros(size, np.uint8) for size in sizes]
        self.reasons: list[str] = [KEPT]

    def drop(self, keys: "NDArray[np.int64] | Sequence[int]", reason: str) -> int:
        """Lets documents fall, those that have fallen already aside.

        Args:
            keys: Their keys.
            reason: Why.

        Returns:
            How many fell.
        """
        code = self._code(reason)
        keys = np.asarray(keys, np.int64)
        fallen = 0
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for part in np.unique(ordered >> 32).tolist():
            rows = ordered[np.searchsorted(ordered, part << 32) : np.searchsorted(ordered, (part + 1) << 32)]
            rows = rows & 0xFFFFFFFF
            codes = self._parts[part]
            staying = rows[codes[rows] == 0]
            codes[staying] = code
            fallen += len(staying)
        return fallen

    def drop_each(self, keys: Sequence[int], reasons: Iterable[str | None]) -> None:
        """Lets documents fall, each for a reason of its own.

        Args:
            keys: Their keys.
            reasons: Why, `None` for those that stay.
        """
        by_reason: dict[str, list[int]] = {}
        for key, reason in zip(keys, reasons, strict=True):
            if reason is not None:
                by_reason.setdefault(reason, []).append(key)
        for reason, found in by_reason.items():
            self.drop(found, reason)

    def _code(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def select(self, part: int) -> NDArray[np.uint8]:
        """Codes of a part's documents: places in `reasons`, 0 for those that stay.

        Args:
            part: Its number.

        Returns:
            uint8, shape (D,).
        """
        return self._parts[part]

    def count_kept(self) -> int:
        """How many stay."""
        return int(sum((codes == 0).sum() for codes in self._parts))

    def save(self, folder: Path) -> None:
        """Writes a file a part for the workers.

        Args:
            folder: Where to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for part, codes in enumerate(self._parts):
            np.save(folder / f"{part:05d}.npy", codes)
