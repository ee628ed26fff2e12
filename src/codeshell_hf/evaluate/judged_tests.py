"""Compares what a program gives for one input after another; the sandbox runs this file's text in the tests' process.

It imports nothing of the package, and runs in Python 3.9 or later.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def limit_time(seconds: float) -> None:
    """Raises a TimeoutError after so many seconds; 0 for never."""

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def compare_outputs(
    run: Callable[[str], str],
    cases: list[tuple[str, list[str]]],
    is_same: Callable[[str, str], bool],
    timeout_s: float,
) -> None:
    """Runs a program on each input; an AssertionError if it prints none of the accepted outputs."""
    for given, accepted in cases:
        limit_time(timeout_s)
        output = run(given)
        limit_time(0)
        if not isinstance(output, str) or not any(is_same(output, expected) for expected in accepted):
            raise AssertionError


def compare_values(call: Callable[..., Any], cases: list[tuple[list[Any], Any]], timeout_s: float) -> None:
    """Calls a function with each list of arguments; an AssertionError if a result is another. A tuple is a list."""
    for given, expected in cases:
        limit_time(timeout_s)
        output = call(*given)
        limit_time(0)
        if (list(output) if isinstance(output, tuple) else output) != expected:
            raise AssertionError
