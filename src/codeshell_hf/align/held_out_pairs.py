"""The loss, margin and accuracy of direct preference optimisation on held-out pairs, each a sum over pairs.

A trainer's own values are means of means over batches of unequal size, and count the pairs twice that fill the last
batch of the ranks.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from transformers import PreTrainedModel

from ..text.chat import NO_LOSS, Message, encode_answer, encode_prompt, pad_rows
from ..text.intervals import Change, measure_change
from ..tokenization_codeshell import CodeShellTokenizer
from .held_out_loss import compute_token_losses
from .shared_work import compute_in_batches


@dataclass(frozen=True)
class EncodedPair:
    """Two answers to a prompt as tokens: the prompt is what both have in common with it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


@dataclass(frozen=True)
class PairLogProbs:
    """Log-probabilities of both answers in nats, each summed over its tokens."""

    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int


@dataclass(frozen=True)
class Scored:
    """A pair's log-ratios to the reference in nats, and what else a loss needs."""

    chosen: float
    rejected: float
    policy: PairLogProbs


def log_sigmoid(value: float) -> float:
    """The logarithm of the sigmoid, without overflow.

    >>> round(log_sigmoid(0.0), 4), log_sigmoid(-800.0)
    (-0.6931, -800.0)
    """
    return min(value, 0.0) - math.log1p(math.exp(-abs(value)))


def _sigmoid_norm(pair: Scored, beta: float) -> float:
    difference = pair.chosen / pair.policy.chosen_tokens - pair.rejected / pair.policy.rejected_tokens
    return -log_sigmoid(beta * difference)


def _ipo(pair: Scored, beta: float) -> float:
    difference = pair.chosen / pair.policy.chosen_tokens - pair.rejected / pair.policy.rejected_tokens
    return (difference - 1 / (2 * beta)) ** 2


LOSSES: Mapping[str, Callable[[Scored, float], float]] = {
    "sigmoid": lambda pair, beta: -log_sigmoid(beta * (pair.chosen - pair.rejected)),
    "hinge": lambda pair, beta: max(0.0, 1 - beta * (pair.chosen - pair.rejected)),
    "ipo": _ipo,
    "sigmoid_norm": _sigmoid_norm,
    "apo_zero": lambda pair, beta: (
        1 - math.exp(log_sigmoid(beta * pair.chosen)) + math.exp(log_sigmoid(beta * pair.rejected))
    ),
}
"""Losses of a pair by TRL's names, from its log-ratios; "sft" is a mean over tokens instead."""


@dataclass(frozen=True)
class PairMeasures:
    """Means over pairs; `loss` is `None` for a loss that is not computed here."""

    loss: float | None
    margin: float
    accuracy: float


def encode_pair(
    tokenizer: CodeShellTokenizer, prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message]
) -> EncodedPair:
    """Encodes a pair as TRL does: an answer begins where it differs from its prompt."""
    prompt_ids = encode_prompt(tokenizer, prompt)
    chosen_ids, rejected_ids = (encode_answer(tokenizer, prompt, turns[0]["content"]) for turns in (chosen, rejected))
    common = 0
    while common < len(prompt_ids) and prompt_ids[common] == chosen_ids[common] == rejected_ids[common]:
        common += 1
    return EncodedPair(prompt_ids[:common], chosen_ids[common:], rejected_ids[common:])


def compute_log_probs(
    model: PreTrainedModel, pairs: Sequence[EncodedPair], *, batch_size: int, pad_id: int
) -> list[PairLogProbs]:
    """Computes the log-probabilities of pairs; the ranks share them, and all get all.

    Args:
        batch_size: Pairs at a time.
    """
    sums = compute_in_batches(
        model,
        len(pairs),
        batch_size,
        lambda places: _compute_batch(model, [pairs[place] for place in places], pad_id),
    )
    return [PairLogProbs(*found, len(pair.chosen), len(pair.rejected)) for found, pair in zip(sums, pairs, strict=True)]


def _compute_batch(model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int) -> list[tuple[float, float]]:
    rows = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    ids, mask = pad_rows([[*prompt, *answer] for prompt, answer in rows], pad_id, side="right")
    labels = ids.masked_fill(mask == 0, NO_LOSS)
    for row, (prompt, _) in enumerate(rows):
        labels[row, : len(prompt)] = NO_LOSS
    device = model.device
    logits = model(ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    losses = compute_token_losses(logits, labels.to(device))
    sums = (-losses.double().sum(1)).reshape(-1, 2).tolist()
    return [(chosen, rejected) for chosen, rejected in sums]


class HeldOutPairs:
    """Measures a policy on held-out pairs before and after training; the first measurement is the reference.

    It is saved in `path`, so that a resumed run still has it.

    Args:
        losses: TRL's names of losses, each with its weight.
        writes: Whether this rank does.
    """

    def __init__(
        self, pairs: Sequence[EncodedPair], path: Path, *, losses: Mapping[str, float], beta: float, writes: bool
    ) -> None:
        self.pairs = pairs
        self.path = path
        self.losses = losses
        self.beta = beta
        self.writes = writes
        self.reference: list[PairLogProbs] = []
        self.scored: list[Scored] = []

    def take_reference(self, model: PreTrainedModel, *, batch_size: int, pad_id: int) -> None:
        """Measures the policy before training, or reads that measurement."""
        if self.path.exists():
            values = json.loads(self.path.read_text(encoding="utf-8"))
            self.reference = [PairLogProbs(*row) for row in values]
            return
        self.reference = compute_log_probs(model, self.pairs, batch_size=batch_size, pad_id=pad_id)
        if self.writes:
            self.path.write_text(json.dumps([astuple(row) for row in self.reference]), encoding="utf-8")

    def score(self, model: PreTrainedModel, *, batch_size: int, pad_id: int) -> list[Scored]:
        """Scores the policy as it is."""
        policy = compute_log_probs(model, self.pairs, batch_size=batch_size, pad_id=pad_id)
        return [
            Scored(new.chosen - old.chosen, new.rejected - old.rejected, new)
            for new, old in zip(policy, self.reference, strict=True)
        ]

    def take_last(self, model: PreTrainedModel, *, batch_size: int, pad_id: int) -> None:
        """Scores the policy after training."""
        self.scored = self.score(model, batch_size=batch_size, pad_id=pad_id)

    @property
    def untrained(self) -> list[Scored]:
        """The scores before training."""
        return [Scored(0.0, 0.0, row) for row in self.reference]

    def measure(self, scored: Sequence[Scored]) -> PairMeasures:
        """The means over pairs."""
        margins = self.list_margins(scored)
        return PairMeasures(
            loss=sum_losses(scored, self.losses, self.beta),
            margin=sum(margins) / len(margins),
            accuracy=sum(margin > 0 for margin in margins) / len(margins),
        )

    def list_margins(self, scored: Sequence[Scored]) -> list[float]:
        """How much more the better answer of each pair gained, as a reward: `beta` times the log-ratios' difference."""
        return [self.beta * (pair.chosen - pair.rejected) for pair in scored]

    def measure_change(self, scored: Sequence[Scored], seed: int) -> Change | None:
        """The change of the margin; `None` for a single pair."""
        margins = self.list_margins(scored)
        return measure_change([0.0] * len(margins), margins, seed=seed) if len(margins) > 1 else None


def sum_losses(scored: Sequence[Scored], losses: Mapping[str, float], beta: float) -> float | None:
    """The weighted losses, each a mean over pairs, and "sft" a mean over the tokens of the chosen answers.

    Returns:
        `None` if one of them is not known here.
    """
    total = 0.0
    for name, weight in losses.items():
        if name == "sft":
            tokens = sum(pair.policy.chosen_tokens for pair in scored)
            total += weight * -sum(pair.policy.chosen for pair in scored) / tokens
        elif name in LOSSES:
            total += weight * sum(LOSSES[name](pair, beta) for pair in scored) / len(scored)
        else:
            return None
    return total


def describe(measures: PairMeasures, prefix: str) -> dict[str, float]:
    """The measures as an entry of a trainer's log."""
    return {f"{prefix}{name}": value for name, value in asdict(measures).items() if value is not None}
