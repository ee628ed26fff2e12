"""Catches a scheduler's request to stop, and ends the run."""

import signal
from types import FrameType
from typing import NoReturn

from ..errors import Interrupted, RunFailed
from ..operating_system import list_stop_signals
from .checkpoint import Checkpoints, Run


class StopSignal:
    """Records SIGTERM and similar signals, so that the loop can save before it exits."""

    def __init__(self) -> None:
        self.is_received = False
        for number in list_stop_signals():
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.is_received = True


def stop_early(checkpoints: Checkpoints, run: Run, steps: int) -> NoReturn:
    """Ends a run between two steps, once there is a checkpoint of the last one.

    Raises:
        Interrupted: The run can be continued.
        RunFailed: The checkpoint could not be written.
    """
    step = run.progress.step
    if step == 0:
        raise Interrupted("stopped before the end of the first step; run the same command again")
    if checkpoints.last_step != step:
        checkpoints.save(run)
    if not checkpoints.commit() or checkpoints.last_step != step:
        raise RunFailed(f"step {step} of {steps} could not be saved; make room and run again")
    raise Interrupted(f"saved step {step} of {steps}; run the same command again to continue")
