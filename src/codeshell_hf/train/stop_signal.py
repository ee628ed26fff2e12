"""Catches a scheduler's request to stop."""

import signal
from types import FrameType

from ..operating_system import list_stop_signals


class StopSignal:
    """Records SIGTERM and similar signals, so that the loop can save before it exits."""

    def __init__(self) -> None:
        self.is_received = False
        for number in list_stop_signals():
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.is_received = True
