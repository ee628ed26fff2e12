"""What a program is, what it may use, and what became of it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    """A candidate in Python and what it is held to, in one interpreter.

    Args:
        source: Python, which nobody has read.
        tests: Python that runs after it in the same scope; the program passes if the last line of both is reached.
        limits: Its own; by default the sandbox's.
    """

    source: str
    tests: str = ""
    limits: Limits | None = None

    def request(self) -> dict[str, Any]:
        """The program as the lean process reads it.

        Returns:
            Plain values.
        """
        return {"kind": "python", "source": self.source, "tests": self.tests}


@dataclass(frozen=True)
class StrictProgram:
    """A candidate in Python whose tests run in another process, where nothing of its own making arrives.

    Args:
        source: Python, which nobody has read.
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

    def request(self) -> dict[str, Any]:
        """The program as the lean process reads it.

        Returns:
            Plain values.
        """
        values = {"source": self.source, "tests": self.tests, "prelude": self.prelude}
        return {"kind": "strict", **values, "names": list(self.names)}


@dataclass(frozen=True)
class CommandProgram:
    """A candidate in any language: files, and the commands that build and run them.

    Args:
        files: Name and text of each. Where `@PROOF@` stands in them, a text is put that nobody can guess.
        commands: Each a program and its arguments; the first that does not end with 0 fails the candidate.
        is_proven: Whether that text has to stand at the end of what is printed, so that leaving early is no success.
        folders: Where commands find others, such as a linker.
        limits: Its own; by default the sandbox's.
    """

    files: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    is_proven: bool = False
    folders: tuple[str, ...] = ()
    limits: Limits | None = None

    def request(self) -> dict[str, Any]:
        """The program as the lean process reads it.

        Returns:
            Plain values.
        """
        values = {key: value for key, value in asdict(self).items() if key != "limits"}
        return {"kind": "commands", **values}


AnyProgram = Program | StrictProgram | CommandProgram


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Args:
        status: "passed" if all of it ran to its end; "timed out" if it was killed for its time; else "failed".
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
        """Whether all of it ran to its end."""
        return self.status == "passed"
