"""Bits per byte: how well a model predicts text, whatever its tokenizer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .intervals import ratio_interval

EVALUATED_TOGETHER = 8


@dataclass
class BitCount:
    """The bits that a model needs for each document, and the document's bytes in UTF-8."""

    document_bits: list[float] = field(default_factory=list)
    document_bytes: list[int] = field(default_factory=list)

    @property
    def bits(self) -> float:
        """The total over documents."""
        return math.fsum(self.document_bits)

    @property
    def bytes(self) -> int:
        """The total over documents."""
        return sum(self.document_bytes)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte; infinite without documents."""
        return self.bits / self.bytes if self.bytes else math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of bits per byte, resampled over documents."""
        return ratio_interval(self.document_bits, self.document_bytes)


@torch.no_grad()
def score_documents(
    model: nn.Module,
    documents: Sequence[tuple[str, NDArray[Any], int]],
    *,
    window_tokens: int,
    vocab_size: int,
) -> dict[str, BitCount]:
    """Scores documents; returns a score for each language and one for "all".

    Each document is cut into windows that overlap by one token, from which the first of the next window is predicted.
    The first token of a document, which nothing predicts, costs as much as a uniform guess.

    Args:
        documents: Language, ids of shape (T,) and length in bytes of each.
        window_tokens: Longest input of the model.
        vocab_size: Entries of the tokenizer, not rows of the embedding.
    """
    device = next(model.parameters()).device
    bits: list[float] = []
    windows: list[tuple[int, NDArray[Any]]] = []
    for number, (_, ids, _) in enumerate(documents):
        bits.append(math.log2(vocab_size) if len(ids) else 0.0)
        starts = range(0, max(len(ids) - 1, 0), window_tokens - 1)
        windows += [(number, ids[start : start + window_tokens]) for start in starts]

    windows.sort(key=lambda window: -len(window[1]))
    for first in range(0, len(windows), EVALUATED_TOGETHER):
        batch = windows[first : first + EVALUATED_TOGETHER]
        longest = len(batch[0][1])
        padded = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, (_, window) in enumerate(batch):
            padded[row, : len(window)] = torch.from_numpy(window.astype(np.int64))
        inputs = padded.to(device)
        logits = model(input_ids=inputs, use_cache=False).logits[:, :-1].float()
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), inputs[:, 1:], reduction="none")
        for row, (number, window) in enumerate(batch):
            bits[number] += losses[row, : len(window) - 1].sum().item() / math.log(2)

    scores: dict[str, BitCount] = {"all": BitCount()}
    for (language, _, size), needed in zip(documents, bits, strict=True):
        for name in (language, "all"):
            score = scores.setdefault(name, BitCount())
            score.document_bits.append(needed)
            score.document_bytes.append(size)
    return scores
