"""Bits per byte: how well a model predicts text, whatever its tokenizer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import Interrupted
from ..modeling_codeshell import CodeShellForCausalLM
from .intervals import ratio_interval
from .token_files import TokenArray

EVALUATED_TOGETHER = 8
MAX_LOGIT_BYTES = 1 << 30  # of the logits in memory together; for models other than our own, at least one row's
BYTES_PER_LOGIT = 12  # with their conversion to float32 and the log-softmax


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


class Sharing(Protocol):
    """Processes that share the work; each of them must call with the same documents."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def count(self) -> int:
        """How many there are."""

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sums each number over all of them."""


@torch.no_grad()
def compute_losses(model: nn.Module, ids: Tensor) -> Tensor:
    """The loss of each token but the first, in nats, shape (B, T - 1), float32.

    Args:
        model: Any causal language model of transformers. Of our own, the logits of all positions are never in memory
            together.
        ids: Shape (B, T), int64.
    """
    if isinstance(model, CodeShellForCausalLM):
        hidden = model.transformer(input_ids=ids, use_cache=False).last_hidden_state
        return losses_from_hidden(hidden, model.lm_head, ids)
    config = model.config.get_text_config() if isinstance(model, PreTrainedModel) else None
    row_bytes = BYTES_PER_LOGIT * ids.shape[1] * getattr(config, "vocab_size", 1)
    found = []
    for part in ids.split(max(1, MAX_LOGIT_BYTES // row_bytes)):  # type: ignore[no-untyped-call]
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].float()
        found.append(nn.functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none"))
    return torch.cat(found)


@torch.no_grad()
def losses_from_hidden(hidden: Tensor, head: nn.Linear, ids: Tensor) -> Tensor:
    """As `compute_losses`, from hidden states of shape (B, T, D) and an output layer."""
    return score_targets(hidden[:, :-1], head, ids[:, 1:])


@torch.no_grad()
def score_targets(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """The loss of the token that each position predicts, in nats, shape (B, T), float32; 0 where it is -100.

    Args:
        hidden: Shape (B, T, D).
        head: The output layer.
        targets: Shape (B, T), int64.
    """
    flat, expected = hidden.flatten(0, 1), targets.flatten()
    positions = max(1, MAX_LOGIT_BYTES // (BYTES_PER_LOGIT * head.out_features))
    losses = [
        nn.functional.cross_entropy(head(part).float(), labels, reduction="none")
        for part, labels in zip(flat.split(positions), expected.split(positions), strict=True)  # type: ignore[no-untyped-call]
    ]
    return torch.cat(losses).view(len(targets), -1)


def score_documents(
    model: nn.Module,
    documents: Sequence[tuple[str, TokenArray, int]],
    *,
    window_tokens: int,
    vocab_size: int,
    measure: Callable[[nn.Module, Tensor], Tensor] = compute_losses,
    ranks: Sharing | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> dict[str, BitCount]:
    """Scores documents; returns a score for each language and one for "all".

    Each document is cut into windows that overlap by one token, from which the first of the next window is predicted.
    The first token of a document, which nothing predicts, costs as much as a uniform guess.

    Args:
        documents: Language, ids of shape (T,) and length in bytes of each.
        window_tokens: Longest input of the model.
        vocab_size: Entries of the tokenizer, not rows of the embedding.
        measure: How `model` computes losses.
        ranks: Processes that share the windows; all get the same result, which is that of one process.
        is_stopping: Asked after each batch of windows.

    Raises:
        Interrupted: If any rank is stopping; on all ranks.
    """
    device = next(model.parameters()).device
    windows: list[tuple[int, TokenArray]] = []
    for number, (_, ids, _) in enumerate(documents):
        starts = range(0, max(len(ids) - 1, 0), window_tokens - 1)
        windows += [(number, ids[start : start + window_tokens]) for start in starts]
    windows.sort(key=lambda window: -len(window[1]))
    batches = [windows[first : first + EVALUATED_TOGETHER] for first in range(0, len(windows), EVALUATED_TOGETHER)]

    nats = [0.0] * len(documents)
    rank, count = (ranks.rank, ranks.count) if ranks else (0, 1)
    for first in range(0, len(batches), count):
        # Sharded models need every rank in every forward pass: one without a batch repeats the last.
        batch = batches[min(first + rank, len(batches) - 1)]
        padded = torch.zeros(len(batch), len(batch[0][1]), dtype=torch.long)
        for row, (_, window) in enumerate(batch):
            padded[row, : len(window)] = torch.from_numpy(window.astype(np.int64))
        losses = measure(model, padded.to(device))
        if first + rank < len(batches):
            for row, (number, window) in enumerate(batch):
                nats[number] += losses[row, : len(window) - 1].sum().item()
        stops = float(is_stopping())
        if (ranks.all_reduce_sum(stops)[0] if ranks else stops) > 0:
            raise Interrupted("the evaluation was stopped; run the same command again")
    if ranks:
        nats = ranks.all_reduce_sum(*nats)

    scores: dict[str, BitCount] = {"all": BitCount()}
    for (language, ids, size), needed in zip(documents, nats, strict=True):
        for name in (language, "all"):
            score = scores.setdefault(name, BitCount())
            score.document_bits.append(needed / math.log(2) + (math.log2(vocab_size) if len(ids) else 0.0))
            score.document_bytes.append(size)
    return scores
