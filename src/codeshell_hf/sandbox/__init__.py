"""Runs untrusted programs: no network, no home, no other process, and limits on every resource."""

from .backends import BACKENDS, open_sandbox
from .limits import AnyProgram, Backend, CommandProgram, Limits, Program, StrictProgram, Verdict
from .pool import Sandbox

__all__ = [
    "BACKENDS",
    "AnyProgram",
    "Backend",
    "CommandProgram",
    "Limits",
    "Program",
    "Sandbox",
    "StrictProgram",
    "Verdict",
    "open_sandbox",
]
