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


def place_phases(phases: Sequence[tuple[float, int]], *, total_tokens: int, step_tokens: int) -> list[tuple[int, int]]:
    """Places changes of the row length between steps.

    Args:
        phases: Share of all tokens at which each ends, and its row length, in order; the last share is 1.
        total_tokens: Tokens of the whole run.
        step_tokens: Tokens of a step.

    Returns:
        First token and row length of each.

    Raises:
        SettingsError: If the shares do not grow to 1.

    >>> place_phases([(0.9, 2048), (1.0, 8192)], total_tokens=1_000_000, step_tokens=16_384)
    [(0, 2048), (901120, 8192)]
    """
    ends = [until for until, _ in phases]
    if not ends or ends != sorted(set(ends)) or ends[-1] != 1 or ends[0] <= 0:
        raise SettingsError(f"schedule.phases end at {ends}; let until_fraction grow and the last be 1")
    starts = [0, *(round(until * total_tokens / step_tokens) * step_tokens for until in ends[:-1])]
    return [(start, row_tokens) for start, (_, row_tokens) in zip(starts, phases, strict=True)]


def fit_batch(step_tokens: int, *, micro_tokens: int, row_lengths: Sequence[int], ranks: int) -> int:
    """Rounds a step to what ranks and micro-batches divide, as 2.5 million tokens are not by 128 GPUs of 20,480.

    Args:
        step_tokens: Tokens of a step, as asked for.
        micro_tokens: Tokens of a rank's forward pass.
        row_lengths: Every length of rows in the run.
        ranks: How many processes share a step.

    Returns:
        The nearest number of tokens, at least one forward pass of every rank.

    Raises:
        SettingsError: If rows do not divide a forward pass.

    >>> fit_batch(2_500_000, micro_tokens=20_480, row_lengths=[4096], ranks=128)
    2621440
    """
    for row_tokens in row_lengths:
        if micro_tokens % row_tokens:
            raise SettingsError(
                f"batch.micro_tokens is {micro_tokens}, which rows of {row_tokens} do not divide; "
                f"set it to a multiple of {row_tokens}"
            )
    shared = micro_tokens * ranks
    return max(1, round(step_tokens / shared)) * shared
