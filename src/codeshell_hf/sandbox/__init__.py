"""Runs untrusted programs without network, home folder or access to other processes, and with resource limits."""

from .backends import BACKENDS, open_sandbox
from .limits import AnyProgram, Backend, CommandProgram, Limits, Program, Verdict
from .pool import Sandbox

__all__ = [
    "BACKENDS",
    "AnyProgram",
    "Backend",
    "CommandProgram",
    "Limits",
    "Program",
    "Sandbox",
    "Verdict",
    "open_sandbox",
]
