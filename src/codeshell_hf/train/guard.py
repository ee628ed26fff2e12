"""Skips steps whose gradient norm is not finite, or far above the running mean."""

import math
from dataclasses import dataclass, field

from .settings import GuardSettings

DECAY = 0.98  # of the running mean, per step
STATE = ("mean", "taken", "skipped", "skipped_in_a_row")


@dataclass
class Guard:
    """Decides whether a step is taken. All ranks have the same norm, so they decide alike.

    `mean` is the running mean of the norms of steps that were taken.

    Source:
        Rolling back and skipping data: Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, section 5.1.
    """

    settings: GuardSettings = field(default_factory=GuardSettings)
    mean: float = 0.0
    taken: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    def allows(self, norm: float) -> bool:
        """Decides on a step from the gradient norm before clipping, and counts it."""
        ratio = self.settings.max_norm_ratio
        is_warm = self.taken >= self.settings.warmup_steps
        is_spike = ratio is not None and is_warm and norm > ratio * self.mean
        if not math.isfinite(norm) or is_spike:
            self.skipped += 1
            self.skipped_in_a_row += 1
            return False
        self.mean = norm if not self.taken else DECAY * self.mean + (1 - DECAY) * norm
        self.taken += 1
        self.skipped_in_a_row = 0
        return True

    @property
    def wants_rollback(self) -> bool:
        """Whether so many steps in a row were skipped that the weights themselves are suspect."""
        return self.skipped_in_a_row >= self.settings.max_skips

    def state(self) -> dict[str, float]:
        """The state for a checkpoint."""
        return {name: getattr(self, name) for name in STATE}

    def restore(self, state: dict[str, float]) -> None:
        """Restores `state`."""
        for name, value in state.items():
            setattr(self, name, value)
