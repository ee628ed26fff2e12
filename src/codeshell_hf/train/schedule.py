"""What changes during a run, as functions of the tokens consumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SettingsError


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up, then a cosine down to a floor.

    Args:
        peak: Highest rate.
        floor_fraction: The rate at the end, as a share of the peak.
        warmup_tokens: Tokens until the peak.
        total_tokens: Tokens until the floor.
    """

    peak: float
    floor_fraction: float
    warmup_tokens: int
    total_tokens: int

    def at(self, tokens: int) -> float:
        """The rate of the step that ends at this number of tokens.

        Args:
            tokens: Tokens consumed by the end of the step.

        Returns:
            The learning rate.
        """
        return self.peak * self.factor(tokens)

    def factor(self, tokens: int) -> float:
        """The rate as a share of the peak.

        Args:
            tokens: Tokens consumed by the end of the step.

        Returns:
            Between 0 and 1.
        """
        if tokens < self.warmup_tokens:
            return tokens / self.warmup_tokens
        progress = min(1.0, (tokens - self.warmup_tokens) / max(self.total_tokens - self.warmup_tokens, 1))
        return self.floor_fraction + (1 - self.floor_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Phase:
    """A part of a run with one length of rows.

    Args:
        until_fraction: Share of all tokens at which it ends, the last one at 1.
        row_tokens: Length of its rows.
    """

    until_fraction: float
    row_tokens: int


def check_phases(phases: Sequence[Phase], *, global_batch_tokens: int, micro_batch_tokens: int, ranks: int) -> None:
    """Refuses phases that do not cover the run or whose rows do not divide the batches.

    Args:
        phases: In their order.
        global_batch_tokens: Tokens of a step.
        micro_batch_tokens: Tokens of a rank's forward pass.
        ranks: How many processes share a step.

    Raises:
        SettingsError: With the value, the rule and the mend.
    """
    ends = [phase.until_fraction for phase in phases]
    if not ends or ends != sorted(set(ends)) or ends[-1] != 1 or ends[0] <= 0:
        raise SettingsError(f"schedule.phases end at {ends}; let until_fraction grow and the last be 1")
    if global_batch_tokens % (micro_batch_tokens * ranks):
        nearest = max(1, round(global_batch_tokens / (micro_batch_tokens * ranks))) * micro_batch_tokens * ranks
        raise SettingsError(
            f"batch.global_tokens is {global_batch_tokens}, which {ranks} ranks of {micro_batch_tokens} tokens do not "
            f"divide; set it to {nearest}"
        )
    for phase in phases:
        if micro_batch_tokens % phase.row_tokens:
            raise SettingsError(
                f"batch.micro_tokens is {micro_batch_tokens}, which rows of {phase.row_tokens} do not divide; "
                f"set it to a multiple of {phase.row_tokens}"
            )


def find_row_tokens(phases: Sequence[Phase], tokens: int, total_tokens: int) -> int:
    """The length of rows at a place in the run.

    Args:
        phases: In their order.
        tokens: Tokens consumed before the step.
        total_tokens: Tokens of the whole run.

    Returns:
        Tokens of a row.
    """
    return next(phase.row_tokens for phase in phases if tokens < phase.until_fraction * total_tokens)
