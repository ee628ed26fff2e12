"""Rolls back to older weights after too many skipped steps."""

from ..errors import RunFailed
from .checkpoint import Checkpoints
from .guard import Guard
from .ranks import Ranks
from .run_log import Progress


def roll_back(checkpoints: Checkpoints, guard: Guard, progress: Progress, norm: float, ranks: Ranks) -> None:
    """Loads the last checkpoint's weights and continues with new data, since the old would fail in the same way.

    Raises:
        RunFailed: After `max_rollbacks`, or without a checkpoint.
    """
    if progress.rollbacks == guard.settings.max_rollbacks or checkpoints.load_weights() is None:
        raise RunFailed(
            f"{guard.skipped_in_a_row} steps in a row were skipped by step {progress.step}, the last with a norm of "
            f"{norm:g}; lower optimizer.learning_rate and run again"
        )
    progress.rollbacks += 1
    ranks.print(f"step {progress.step:>6} | {guard.skipped_in_a_row} steps skipped: rolled back")
    guard.skipped_in_a_row = 0
