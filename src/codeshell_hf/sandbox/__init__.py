"""Runs programs that nobody has read: no network, no home, no other process, and limits on all they can use up."""

from .limits import Limits, Program, Verdict
from .pool import RUNGS, Sandbox, open_sandbox

__all__ = ["RUNGS", "Limits", "Program", "Sandbox", "Verdict", "open_sandbox"]
