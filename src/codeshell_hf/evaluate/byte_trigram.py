"""A byte-trigram model: a baseline from counts, which every trained model should beat."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class ByteTrigram:
    """Predicts a byte from the two before it, with Witten-Bell smoothing down to the uniform distribution.

    Source:
        Witten and Bell 1991, IEEE Transactions on Information Theory 37(4), method C.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((256, 256, 256), np.int64)

    def train(self, texts: Iterable[bytes]) -> "ByteTrigram":
        """Counts the trigrams of texts."""
        flat = self.counts.reshape(-1)
        held: list[NDArray[np.int64]] = []
        size = 0
        for text in texts:
            held.append(self._index(text))
            size += len(text)
            if size > 1 << 24:
                flat += np.bincount(np.concatenate(held), minlength=flat.size)
                held, size = [], 0
        if held:
            flat += np.bincount(np.concatenate(held), minlength=flat.size)
        return self

    def score(self, texts: Iterable[bytes]) -> float:
        """Bits per byte over all texts."""
        probabilities = self._smooth().reshape(-1)
        bits, size = 0.0, 0
        for text in texts:
            bits -= float(np.log2(probabilities[self._index(text)]).sum())
            size += len(text)
        return bits / size

    @staticmethod
    def _index(text: bytes) -> NDArray[np.int64]:
        # Every text is preceded by two line ends.
        values = np.frombuffer(b"\n\n" + text, np.uint8).astype(np.int64)
        return (values[:-2] << 16) | (values[1:-1] << 8) | values[2:]

    def _smooth(self) -> NDArray[np.float64]:
        lower = np.full(256, 1 / 256)
        for counts in (self.counts.sum((0, 1)), self.counts.sum(0), self.counts):
            seen = counts.sum(-1, keepdims=True)
            kinds = (counts > 0).sum(-1, keepdims=True)
            total = np.maximum(seen + kinds, 1)
            lower = np.where(seen > 0, (counts + kinds * lower) / total, np.broadcast_to(lower, counts.shape))
        return lower
