"""Runs untrusted programs: no network, no home, no other process, and limits on every resource."""

from .limits import AnyProgram, CommandProgram, Limits, Program, Rung, StrictProgram, Verdict
from .pool import Sandbox
from .rungs import RUNGS, open_sandbox

__all__ = [
    "RUNGS",
    "AnyProgram",
    "CommandProgram",
    "Limits",
    "Program",
    "Rung",
    "Sandbox",
    "StrictProgram",
    "Verdict",
    "open_sandbox",
]
