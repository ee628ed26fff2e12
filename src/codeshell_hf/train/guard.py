"""Steps that would harm: a gradient norm that is no number, or far above what is usual."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class Guard:
    """Decides whether a step is taken. Every rank knows the same norm, so all decide alike.

    Args:
        max_ratio: A norm so many times the running mean is a spike; `None` lets every finite one pass.
        max_skips: After so many skipped steps on end the run goes back to its last checkpoint.
        warmup_steps: Taken before spikes are looked for.
        mean: Running mean of the norms of the steps taken.
        taken: Steps taken.
        skipped: Steps skipped, of the whole run.
        on_end: Of those, the last ones without one taken between.

    Source:
        Going back and leaving out the data, after Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, section 5.1.
    """

    max_ratio: float | None
    max_skips: int
    warmup_steps: int = 100
    mean: float = 0.0
    taken: int = 0
    skipped: int = 0
    on_end: int = 0

    _DECAY = 0.98

    def allows(self, norm: float) -> bool:
        """Decides on a step and remembers it.

        Args:
            norm: Of all gradients, before clipping.

        Returns:
            Whether it is to be taken.
        """
        is_spike = self.max_ratio is not None and self.taken >= self.warmup_steps and norm > self.max_ratio * self.mean
        if not math.isfinite(norm) or is_spike:
            self.skipped += 1
            self.on_end += 1
            return False
        self.mean = norm if not self.taken else self._DECAY * self.mean + (1 - self._DECAY) * norm
        self.taken += 1
        self.on_end = 0
        return True

    @property
    def gives_up(self) -> bool:
        """Whether so many steps were skipped on end that the weights themselves are suspect."""
        return self.on_end >= self.max_skips

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {name: getattr(self, name) for name in ("mean", "taken", "skipped", "on_end")}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a checkpoint's.

        Args:
            state: What `state` gave.
        """
        for name, value in state.items():
            setattr(self, name, value)
