"""Runs programs that nobody has read: no network, no home, no other process, and limits on all they can use up."""

from .limits import AnyProgram, CommandProgram, Limits, Program, StrictProgram, Verdict
from .pool import Sandbox
from .rungs import RUNGS, open_sandbox

__all__ = [
    "RUNGS",
    "AnyProgram",
    "CommandProgram",
    "Limits",
    "Program",
    "Sandbox",
    "StrictProgram",
    "Verdict",
    "open_sandbox",
]
