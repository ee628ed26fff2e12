"""Turns a child of a worker process into a program and its tests, in one of three ways.

"strict", the default for Python, runs the program and its tests in two processes; see `strict`.

"python" runs them in one interpreter, as other harnesses do. Since they share it, the program can forge success, with a
value that equals everything or through the frames of its caller. Exiting early, printing and replacing built-in
functions do not help.

"commands" writes files and runs commands such as a compiler and its output. It passes if each exits with 0 and the last
prints a text that only its tests print; a program that reads its own source can find that text. With cases, the last
command runs once for each input instead, and this process compares what it prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import SECRET_BYTES
from .judge import find_fault
from .strict import fork_program, make_scope, run_strict

if TYPE_CHECKING:
    from .messages import WorkerRequest

SCRATCH = "/tmp"  # noqa: S108 - a file system of the program's own


def become_program(request: WorkerRequest, pipes: dict[str, int], *, backend: str) -> NoReturn:
    """Turns this child into the program."""
    # Linux only; `portable` does without them.
    from .isolation import (
        MS_NODEV,
        MS_NOSUID,
        cover_processes,
        drop_capabilities,
        filter_calls,
        forbid_new_privileges,
        hide_memory,
        limit_resources,
        mount,
    )

    try:
        if os.getsid(0) != os.getpid():  # bubblewrap has begun a session
            os.setsid()
        for name, target in (("null", 0), ("output", 1), ("output", 2)):
            os.dup2(pipes[name], target)
        # The descriptors of tests and verdict get numbers that are hard to guess; all others are closed.
        sealed = 256 + int.from_bytes(os.urandom(2), "little") % 350
        answer = sealed + 1 + int.from_bytes(os.urandom(2), "little") % 350
        os.dup2(pipes["sealed"], sealed)
        os.dup2(pipes["answer"], answer)
        for first, last in ((3, sealed), (sealed + 1, answer), (answer + 1, 2048)):
            os.closerange(first, last)
        limits = request["limits"]
        if backend == "namespaces":
            options = f"size={limits['max_file_bytes']},nr_inodes={limits['max_files']},mode=1777"
            cover_processes(is_shown=request["kind"] == "commands")
            mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, options)
            drop_capabilities()
        os.chdir(request["folder"])
        limit_resources(limits, counts_processes=backend != "none")
        if backend != "none":
            forbid_new_privileges()
            filter_calls()
    except BaseException as error:
        os.write(pipes["trouble"], f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    os.environ["HOME"] = os.getcwd()
    show_packages(request.get("packages", ""))
    if request["kind"] == "strict":

        def read_tests() -> dict[str, Any]:
            hide_memory()
            return read_sealed(sealed)

        run_strict(
            lambda: fork_program(
                request["source"], [sealed, answer], request["module"], has_input=request["has_input"]
            ),
            read_tests,
            answer,
        )
    if request["kind"] == "commands":
        hide_memory()  # of the expected outputs
    given = read_sealed(sealed)
    if request["kind"] == "commands":
        run_commands(
            given["files"], given["commands"], given["folders"], answer, call=fork_command, judged=Judged.of(given)
        )
    scope = make_scope(request["module"], has_input=request["has_input"])
    run_program(request["source"], given["tests"], give_secret(given.pop("secret")), answer, scope)


def show_packages(folder: str) -> None:
    """Lets this process import the packages of a folder; libraries of numbers get one thread, and plots no screen."""
    if folder:
        sys.path.append(folder)
        os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        os.environ.update({"MPLBACKEND": "Agg", "MPLCONFIGDIR": os.getcwd()})


def read_sealed(descriptor: int) -> dict[str, Any]:
    """Reads and closes the file of what the worker process does not know."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb") as file:
        given: dict[str, Any] = json.loads(file.read())
    return given


def give_secret(secret: str) -> int:
    """A descriptor from which the secret is read."""
    question, write = os.pipe()
    os.write(write, secret.encode())
    os.close(write)
    return question


def run_program(source: str, tests: str, question: int, answer: int, scope: dict[str, Any]) -> NoReturn:
    """Runs the program and its tests, and passes the secret on once both have ended.

    Args:
        question: Descriptor from which the secret is read.
        answer: Descriptor to which it is written.
        scope: Of both.
    """
    # The program may replace any function, so these are looked up before it runs.
    write, read, exit_now, execute, flush = os.write, os.read, os._exit, exec, sys.stdout.flush
    try:
        parts = [
            compile(text, name, "exec", dont_inherit=True) for text, name in ((source, "program"), (tests, "tests"))
        ]
        execute(parts[0], scope)
        execute(parts[1], scope)
        flush()
    except BaseException as error:
        name = type(error).__name__
        write(answer, b"!" + name.encode("utf-8", "replace")[:80])
        try:
            write(2, f"{name}: {error}\n".encode("utf-8", "replace"))
        finally:
            exit_now(1)
    write(answer, read(question, SECRET_BYTES))
    exit_now(0)


class Judged(NamedTuple):
    """The inputs on which the last command runs, what it should print, and the rule by which both are compared."""

    cases: list[tuple[str, list[str]]]
    rule: str
    timeout_s: float
    secret: str

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Judged | None:
        """Those of a request; `None` if its last command runs once and is not judged."""
        if not given.get("cases"):
            return None
        return cls(given["cases"], given["rule"], given["case_timeout_s"], given["secret"])


def run_commands(
    files: list[list[str]],
    commands: list[list[str]],
    folders: list[str],
    answer: int,
    *,
    call: Callable[[list[str]], int],
    judged: Judged | None = None,
) -> NoReturn:
    """Writes files and runs commands, until one fails.

    Args:
        files: Name and text of each.
        commands: Each a program and its arguments.
        folders: Prepended to PATH.
        answer: Descriptor to which the failed command is written.
        call: Runs a command and returns its exit code, negative for a signal.
        judged: How the last command is judged, if it is.
    """
    os.set_inheritable(answer, False)  # noqa: FBT003 - as it takes it
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    try:
        for name, text in files:
            with open(name, "w", encoding="utf-8", newline="") as file:
                file.write(text)
    except (OSError, UnicodeError) as error:
        os.write(answer, b"!" + type(error).__name__.encode())
        os._exit(1)
    for command in commands if judged is None else commands[:-1]:
        status = call(command)
        if status:
            reason = f"signal {-status}" if status < 0 else f"exit {status}"
            os.write(answer, f"!{os.path.basename(command[0])}: {reason}".encode())
            os._exit(1)
    if judged is not None:
        fault = find_fault(commands[-1], judged.cases, judged.rule, judged.timeout_s)
        os.write(answer, f"!{fault}".encode() if fault else judged.secret.encode())
        os._exit(1 if fault else 0)
    os._exit(0)


def fork_command(command: list[str]) -> int:
    """Runs a command in a fork.

    Returns:
        Its exit code, 127 if there is no such program; negative if a signal ended it.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.execvp(command[0], command)  # noqa: S606 - it is isolated
        os._exit(127)
    return os.waitstatus_to_exitcode(wait_for(child))


def wait_for(child: int) -> int:
    """Waits for one child; as the first process it also reaps orphans."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return status


def enter() -> NoReturn:
    """Becomes the program inside bubblewrap; the command line has the descriptors."""
    pipes = json.loads(sys.argv[1])["pipes"]
    with os.fdopen(pipes.pop("request"), "rb") as file:
        request = json.loads(file.read())
    become_program(request, pipes, backend="bubblewrap")
