"""Programs, their limits, and verdicts."""

from dataclasses import dataclass
from typing import Literal

from .inside.messages import WorkerRequest

Backend = Literal["auto", "namespaces", "bubblewrap", "container", "none"]
Rule = Literal["lines", "words"]
Status = Literal["passed", "failed", "timed out"]


@dataclass(frozen=True)
class Limits:
    """Limits of one program.

    Args:
        timeout_s: Wall-clock time, after which it is killed.
        max_memory_bytes: Address space of each process.
        max_resident_bytes: Memory that all of its processes hold together, measured by a process outside every 50 ms;
            `None` for `max_memory_bytes`. Pages that processes share after a fork count for each of them.
        max_processes: Concurrent processes and threads, itself included.
        max_file_bytes: Total size of its files, which are in memory.
        max_files: Number of files and folders.
        max_output_bytes: Size of the kept output; the rest is read and dropped.
    """

    timeout_s: float = 3.0
    max_memory_bytes: int = 1 << 30
    max_processes: int = 16
    max_file_bytes: int = 16 << 20
    max_files: int = 1024
    max_output_bytes: int = 1 << 16
    max_resident_bytes: int | None = None


@dataclass(frozen=True)
class Program:
    """An untrusted Python program and its tests; it passes if both run to their end.

    Args:
        source: The program.
        tests: Python that uses its names.
        prelude: Python that the tests need besides.
        names: Taken from the program, even if the prelude or Python has one of that name.
        strict: Whether the tests run in another process, which only plain values reach, so that the verdict cannot be
            forged. Otherwise both run in one interpreter and scope, as in other harnesses.
        limits: By default the sandbox's.
        module: What the program finds as its `__name__`.
        has_input: Whether its standard input can be read; it is empty. Otherwise reading it is an error.
        packages: Folder of packages that it may import, which the sandbox has to show; empty for none.
    """

    source: str
    tests: str = ""
    prelude: str = ""
    names: tuple[str, ...] = ()
    strict: bool = True
    limits: Limits | None = None
    module: str = "__main__"
    has_input: bool = True
    packages: str = ""

    def request(self) -> WorkerRequest:
        """The request to a worker process."""
        seen: WorkerRequest = {"source": self.source, "module": self.module, "has_input": self.has_input}
        if self.packages:
            seen["packages"] = self.packages
        if not self.strict:
            return {"kind": "python", **seen, "tests": self.tests}
        return {
            "kind": "strict",
            **seen,
            "tests": self.tests,
            "prelude": self.prelude,
            "names": list(self.names),
        }


@dataclass(frozen=True)
class CommandProgram:
    """An untrusted program in any language: files, and the commands that build and run them.

    Args:
        files: Names and texts. `@PROOF@` in them is replaced by a secret text; keep it out of what a model wrote.
        commands: Programs with arguments; it fails at the first that does not exit with 0.
        is_proven: Whether the output has to end with the secret text, so that exiting early fails.
        folders: Prepended to PATH, such as that of a linker.
        limits: By default the sandbox's.
        cases: Inputs, each with the outputs of which one has to be printed, on which the last command runs; if there
            are any, it passes if it prints a right one for each.
        rule: How outputs are compared: "lines" as LiveCodeBench, "words" as ExecEval.
        case_timeout_s: Of each case.
    """

    files: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    is_proven: bool = False
    folders: tuple[str, ...] = ()
    limits: Limits | None = None
    cases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    rule: Rule = "lines"
    case_timeout_s: float = 5.0

    def request(self) -> WorkerRequest:
        """The request to a worker process."""
        return {
            "kind": "commands",
            "files": [list(file) for file in self.files],
            "commands": [list(command) for command in self.commands],
            "is_proven": self.is_proven,
            "folders": list(self.folders),
            "cases": [[given, list(accepted)] for given, accepted in self.cases],
            "rule": self.rule,
            "case_timeout_s": self.case_timeout_s,
        }


AnyProgram = Program | CommandProgram


@dataclass(frozen=True)
class Verdict:
    """The verdict on a program.

    Args:
        status: "passed" if it ran to its end; "timed out" if it was killed at its time limit; else "failed".
        reason: The exception's type, such as "AssertionError", the signal, or the failed command; empty if it passed.
        seconds: Wall-clock time.
        output: The beginning of its output.
        end: The last 4,096 bytes of its output.
    """

    status: Status
    reason: str
    seconds: float
    output: str
    end: str = ""

    @property
    def passed(self) -> bool:
        """Whether it ran to its end."""
        return self.status == "passed"
