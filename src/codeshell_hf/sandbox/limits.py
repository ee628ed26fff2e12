"""Programs, their limits, and verdicts on them."""

from dataclasses import dataclass
from typing import Literal

from .inside.messages import WorkerRequest

Backend = Literal["auto", "namespaces", "bubblewrap", "container", "none"]
Status = Literal["passed", "failed", "timed out"]


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Memory is limited for each process: all together may hold `max_processes` times `max_memory_bytes`. Only a control
    group, for which a user needs the system's permission, could bound the sum.

    Args:
        timeout_s: Wall-clock time, after which it is killed.
        max_memory_bytes: Address space of each of its processes.
        max_processes: Processes and threads at a time, itself included.
        max_file_bytes: All of its files together; they lie in memory.
        max_files: Files and folders together.
        max_output_bytes: How much of its output is kept; the rest is read and dropped.
    """

    timeout_s: float = 3.0
    max_memory_bytes: int = 1 << 30
    max_processes: int = 16
    max_file_bytes: int = 16 << 20
    max_files: int = 1024
    max_output_bytes: int = 1 << 16


@dataclass(frozen=True)
class Program:
    """A candidate in Python and its tests, in one interpreter.

    Args:
        source: Untrusted Python.
        tests: Python that runs after it in the same scope; the program passes if the last line of both is reached.
        limits: Its own; by default the sandbox's.
    """

    source: str
    tests: str = ""
    limits: Limits | None = None

    def request(self) -> WorkerRequest:
        """The program as a worker process reads it."""
        return {"kind": "python", "source": self.source, "tests": self.tests}


@dataclass(frozen=True)
class StrictProgram:
    """A candidate in Python whose tests run in another process, which only plain values reach.

    Args:
        source: Untrusted Python.
        tests: Python that calls its functions.
        names: Of these functions.
        prelude: Python that the tests need besides them.
        limits: Its own; by default the sandbox's.
    """

    source: str
    tests: str
    names: tuple[str, ...]
    prelude: str = ""
    limits: Limits | None = None

    def request(self) -> WorkerRequest:
        """The program as a worker process reads it."""
        return {
            "kind": "strict",
            "source": self.source,
            "tests": self.tests,
            "prelude": self.prelude,
            "names": list(self.names),
        }


@dataclass(frozen=True)
class CommandProgram:
    """A candidate in any language: files, and the commands that build and run them.

    Args:
        files: Name and text of each. `@PROOF@` in them is replaced by a secret text.
        commands: Each a program and its arguments; the first that does not exit with 0 fails the candidate.
        is_proven: Whether that text has to end the output, so that exiting early is no success.
        folders: Put first into PATH, such as that of a linker.
        limits: Its own; by default the sandbox's.
    """

    files: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    is_proven: bool = False
    folders: tuple[str, ...] = ()
    limits: Limits | None = None

    def request(self) -> WorkerRequest:
        """The program as a worker process reads it."""
        return {
            "kind": "commands",
            "files": [list(file) for file in self.files],
            "commands": [list(command) for command in self.commands],
            "is_proven": self.is_proven,
            "folders": list(self.folders),
        }


AnyProgram = Program | StrictProgram | CommandProgram


@dataclass(frozen=True)
class Verdict:
    """The verdict on a program.

    Args:
        status: "passed" if it ran to its end; "timed out" if it was killed at its time limit; else "failed".
        reason: The kind of error, such as "AssertionError", the signal that ended it, or the command that failed;
            empty if it passed.
        seconds: Wall-clock time.
        output: The beginning of what it printed.
    """

    status: Status
    reason: str
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        """Whether it ran to its end."""
        return self.status == "passed"
