"""Steps to skip: a gradient norm that is not finite, or far above the usual ones."""

import math
from dataclasses import dataclass, field

from .settings import GuardSettings

DECAY = 0.98  # of the running mean, a step
STATE = ("mean", "taken", "skipped", "skipped_in_a_row")


@dataclass
class Guard:
    """Decides whether a step is taken. Every rank has the same norm, so all decide alike.

    Args:
        settings: What counts as a spike, and after how many skipped steps the weights are suspect.
        mean: Running mean of the norms of the steps taken.
        taken: Steps taken.
        skipped: Steps skipped, of the whole run.
        skipped_in_a_row: Of those, the last ones, without one taken between.

    Source:
        Rolling back and leaving out the data, after Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, section 5.1.
    """

    settings: GuardSettings = field(default_factory=GuardSettings)
    mean: float = 0.0
    taken: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    def allows(self, norm: float) -> bool:
        """Decides on a step by the norm of all gradients before clipping, and records it."""
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
        """Whether so many steps were skipped in a row that the weights themselves are suspect."""
        return self.skipped_in_a_row >= self.settings.max_skips

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        return {name: getattr(self, name) for name in STATE}

    def restore(self, state: dict[str, float]) -> None:
        """Takes back what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)
