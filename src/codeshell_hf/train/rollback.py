"""Rolling back to older weights after too many skipped steps."""

from ..errors import RunFailed
from .checkpoint import Checkpoints
from .guard import Guard
from .progress import Progress


def roll_back(checkpoints: Checkpoints, guard: Guard, progress: Progress, norm: float) -> None:
    """Loads the last checkpoint's weights; the data go on, since the same ones would lead to the same again.

    Raises:
        RunFailed: If it was done too often, or there is no checkpoint.
    """
    if progress.rollbacks == guard.settings.max_returns or checkpoints.load_weights() is None:
        raise RunFailed(
            f"{guard.skipped_in_a_row} steps in a row were skipped by step {progress.step}, the last for a norm of "
            f"{norm:g}; lower optimizer.learning_rate and run again"
        )
    progress.rollbacks += 1
    guard.skipped_in_a_row = 0
