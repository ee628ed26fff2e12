"""What a program may use, and what became of it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "timed out"]


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Memory is limited for each process: all together may hold `max_processes` times `max_memory_bytes`, and only a
    control group, which needs a system's leave, could bound the sum.

    Args:
        timeout_s: Wall-clock time, after which it is killed.
        max_memory_bytes: Address space of each of its processes.
        max_processes: Processes and threads at a time, itself included.
        max_file_bytes: All of its files together; they lie in memory.
        max_files: Files and folders together.
        max_output_bytes: Of what it prints, this much is kept; the rest is read and dropped.
    """

    timeout_s: float = 3.0
    max_memory_bytes: int = 1 << 30
    max_processes: int = 16
    max_file_bytes: int = 16 << 20
    max_files: int = 1024
    max_output_bytes: int = 1 << 16


@dataclass(frozen=True)
class Program:
    """A candidate and what it is held to.

    Args:
        source: Python, which nobody has read.
        tests: Python that runs after it in the same scope; the program passes if the last line of both is reached.
    """

    source: str
    tests: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Args:
        status: "passed" if all of it ran to its end; "timed out" if it was killed for its time; else "failed".
        reason: The kind of error, such as "AssertionError", or the signal that ended it; empty if it passed.
        seconds: Wall-clock time.
        output: The beginning of what it printed.
    """

    status: Status
    reason: str
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        """Whether all of it ran to its end."""
        return self.status == "passed"
