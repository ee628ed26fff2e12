"""Bits per byte: how well a model predicts text, whatever its tokenizer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

EVALUATED_TOGETHER = 8


@dataclass
class Score:
    """Bits and bytes of some documents.

    Args:
        bits: What the model needs for them.
        bytes: Their length in UTF-8.
    """

    bits: float = 0.0
    bytes: int = 0

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte; infinite for nothing."""
        return self.bits / self.bytes if self.bytes else math.inf


@torch.no_grad()
def score_documents(
    model: nn.Module,
    documents: Sequence[tuple[str, NDArray[Any], int]],
    *,
    window_tokens: int,
    vocab_size: int,
) -> dict[str, Score]:
    """Scores documents by language.

    Each document is cut into windows that overlap by the one token from which the next is predicted. Its first token,
    which nothing predicts, costs as much as a uniform guess.

    Args:
        model: Gives `logits` of shape (B, T, V).
        documents: Language, ids of shape (T,) and length in bytes of each.
        window_tokens: Longest input.
        vocab_size: Entries of the tokenizer.

    Returns:
        Scores by language, and "all".
    """
    device = next(model.parameters()).device
    scores: dict[str, Score] = {"all": Score()}
    windows: list[tuple[str, NDArray[Any]]] = []
    for language, ids, size in documents:
        for name in (language, "all"):
            score = scores.setdefault(name, Score())
            score.bytes += size
            score.bits += math.log2(vocab_size) if len(ids) else 0.0
        starts = range(0, max(len(ids) - 1, 0), window_tokens - 1)
        windows += [(language, ids[start : start + window_tokens]) for start in starts]

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
        for row, (language, window) in enumerate(batch):
            bits = losses[row, : len(window) - 1].sum().item() / math.log(2)
            scores[language].bits += bits
            scores["all"].bits += bits
    return scores


def take_evenly(languages: Sequence[str], sizes: Sequence[int], *, max_bytes_per_language: int) -> list[int]:
    """Chooses documents so that no language costs more than it should.

    Args:
        languages: Of each document.
        sizes: In bytes.
        max_bytes_per_language: A language is closed when it holds this much.

    Returns:
        Indices, in order.
    """
    held: dict[str, int] = {}
    chosen = []
    for index, (language, size) in enumerate(zip(languages, sizes, strict=True)):
        if held.get(language, 0) + size <= max_bytes_per_language:
            held[language] = held.get(language, 0) + size
            chosen.append(index)
    return chosen
