"""Turns a child of a worker process into a program and its tests, in one of three ways.

"python" runs a program and its tests in one interpreter. Since both share a scope, the program can forge success: it
would have to know this file, find the two descriptors in the frames below its own and copy the secret from one to the
other, or return a value that equals everything. Exiting early, printing and replacing built-in functions do not help.

"strict" runs the program in its own process. Its functions are called through a pipe, and their results are rebuilt
from plain values in the test process, which the program cannot reach. None of these forgeries works.

"commands" writes files and runs commands such as a compiler and its output. It passes if each exits with 0 and the last
prints a text that only its tests print; a program that reads its own source can find that text.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from . import SECRET_BYTES

if TYPE_CHECKING:
    from .messages import WorkerRequest

SCRATCH = "/tmp"  # noqa: S108 - a file system of the program's own
MAX_REPLY_BYTES = 1 << 24
# Types of values that a program may return, besides those that pickle encodes without names.
PLAIN_TYPES = {
    ("builtins", name): getattr(builtins, name)
    for name in ("set", "frozenset", "complex", "bytearray", "range", "slice", "int", "str", "list", "dict")
} | {("collections", name): None for name in ("OrderedDict", "Counter", "defaultdict", "deque")}
PLAIN_TYPES |= {("datetime", name): None for name in ("date", "datetime", "time", "timedelta", "timezone")}
PLAIN_TYPES |= {("decimal", "Decimal"): None, ("fractions", "Fraction"): None}


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
        limit_resources,
        mount,
    )

    try:
        os.setsid()
        for name, target in (("null", 0), ("output", 1), ("output", 2)):
            os.dup2(pipes[name], target)
        # The verdict's two descriptors get numbers that are hard to guess; all others are closed.
        question = 256 + int.from_bytes(os.urandom(2), "little") % 350
        answer = question + 1 + int.from_bytes(os.urandom(2), "little") % 350
        os.dup2(pipes["question"], question)
        os.dup2(pipes["answer"], answer)
        for first, last in ((3, question), (question + 1, answer), (answer + 1, 2048)):
            os.closerange(first, last)
        limits = request["limits"]
        if backend == "namespaces":
            options = f"size={limits['max_file_bytes']},nr_inodes={limits['max_files']},mode=1777"
            cover_processes(is_shown=request["kind"] == "commands")
            mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, options)
            drop_capabilities()
        os.chdir(request["folder"])
        limit_resources(limits)
        if backend != "none":
            forbid_new_privileges()
            filter_calls()
    except BaseException as error:
        os.write(pipes["trouble"], f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    os.environ["HOME"] = os.getcwd()
    if request["kind"] == "commands":
        commands = (request["files"], request["commands"], request["folders"])
        run_commands(*commands, question, answer, call=fork_command)
    elif request["kind"] == "strict":
        parts = (request["source"], request["prelude"], request["tests"], request["names"])
        run_strict(*parts, question, answer, start=fork_apart(question, answer))
    run_program(request["source"], request["tests"], question, answer)


def run_program(source: str, tests: str, question: int, answer: int) -> NoReturn:
    """Runs the program and its tests, and passes the secret on once both have ended.

    Args:
        question: Descriptor from which the secret is read.
        answer: Descriptor to which it is written.
    """
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
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


class PlainUnpickler(pickle.Unpickler):
    """Unpickles plain values only, nothing that a program defines."""

    def find_class(self, module: str, name: str) -> object:
        """Finds a type by name; a `TypeError` if it is not plain."""
        if (module, name) not in PLAIN_TYPES:
            raise TypeError(f"{module}.{name} is not a plain value")
        return super().find_class(module, name)


def send(file: BinaryIO, value: object) -> None:
    """Writes a value with a length prefix."""
    packed = pickle.dumps(value, protocol=4)
    file.write(len(packed).to_bytes(8, "little") + packed)
    file.flush()


def receive(file: BinaryIO) -> Any:
    """Reads a value that may come from a program.

    Raises:
        EOFError: If the other process has ended.
        ValueError: If it is too large.
    """
    size = int.from_bytes(file.read(8), "little")
    if not size:
        raise EOFError("the program ended")
    if size > MAX_REPLY_BYTES:
        raise ValueError(f"a reply of {size} bytes")
    return PlainUnpickler(io.BytesIO(file.read(size))).load()


def fork_apart(question: int, answer: int) -> Callable[[str], tuple[BinaryIO, BinaryIO]]:
    """Makes a function that runs a program in a fork and returns the files for writing calls and reading replies.

    Args:
        question: Descriptor that is closed in the program.
        answer: Another one.
    """

    def start(source: str) -> tuple[BinaryIO, BinaryIO]:
        calls, replies = os.pipe(), os.pipe()
        if os.fork() == 0:
            for descriptor in (question, answer, calls[1], replies[0]):
                os.close(descriptor)
            serve_calls(source, os.fdopen(calls[0], "rb"), os.fdopen(replies[1], "wb"))
        os.close(calls[0])
        os.close(replies[1])
        return os.fdopen(calls[1], "wb"), os.fdopen(replies[0], "rb")

    return start


def run_strict(
    source: str,
    prelude: str,
    tests: str,
    names: list[str],
    question: int,
    answer: int,
    *,
    start: Callable[[str], tuple[BinaryIO, BinaryIO]],
) -> NoReturn:
    """Runs a program in its own process, and its tests in this one.

    Args:
        prelude: Code that the tests need besides the program's functions.
        names: Of these functions.
        question: Descriptor from which the secret is read.
        answer: Descriptor to which it is written.
        start: Starts the program, and returns the files for writing calls and reading replies.
    """
    calls, replies = start(source)
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        outcome, reason = receive(replies)
        if outcome == "raised":
            raise make_error(reason)
        exec(compile(prelude, "prelude", "exec", dont_inherit=True), scope)  # noqa: S102 - as asked
        scope.update({name: make_proxy(name, calls, replies) for name in names})
        exec(compile(tests, "tests", "exec", dont_inherit=True), scope)  # noqa: S102
    except BaseException as error:
        os.write(answer, b"!" + type(error).__name__.encode("utf-8", "replace")[:80])
        os._exit(1)
    os.write(answer, os.read(question, SECRET_BYTES))
    os._exit(0)


def make_proxy(name: str, calls: BinaryIO, replies: BinaryIO) -> Callable[..., object]:
    """Makes a function that calls the program's function of that name."""

    def call(*arguments: Any, **named: Any) -> object:
        send(calls, (name, arguments, named))
        outcome, *values = receive(replies)
        if outcome == "raised":
            raise make_error(values[0])
        # Functions may change their arguments in place.
        for argument, changed in zip(arguments, values[1]):  # noqa: B905 - Python 3.9 has no strict
            if type(argument) is type(changed) and isinstance(argument, list):
                argument[:] = changed
            elif type(argument) is type(changed) and isinstance(argument, (dict, set)):
                argument.clear()
                argument.update(changed)
        return values[0]

    return call


def make_error(name: str) -> BaseException:
    """Makes the built-in exception of this name; a `RuntimeError` if there is none."""
    kind = getattr(builtins, str(name), None)
    return kind() if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError(name)


def serve_calls(source: str, calls: BinaryIO, replies: BinaryIO) -> NoReturn:
    """Runs a program and serves calls to its functions."""
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        exec(compile(source, "program", "exec", dont_inherit=True), scope)  # noqa: S102
        send(replies, ("ready", ""))
        while True:
            name, arguments, named = receive(calls)
            try:
                result = scope[name](*arguments, **named)
                packed = ("returned", result, arguments)
                pickle.dumps(packed, protocol=4)
            except Exception as error:
                packed = ("raised", type(error).__name__, ())
            send(replies, packed)
    except BaseException as error:
        with contextlib.suppress(Exception):
            send(replies, ("raised", type(error).__name__))
        os._exit(1)


def run_commands(
    files: list[list[str]],
    commands: list[list[str]],
    folders: list[str],
    question: int,
    answer: int,
    *,
    call: Callable[[list[str]], int],
) -> NoReturn:
    """Writes files and runs commands, until one fails.

    Args:
        files: Name and text of each.
        commands: Each a program and its arguments.
        folders: Prepended to PATH.
        question: Descriptor of the secret, which is closed in commands.
        answer: Descriptor to which the failed command is written.
        call: Runs a command and returns its exit code, negative for a signal.
    """
    os.close(question)
    os.set_inheritable(answer, False)  # noqa: FBT003 - as it takes it
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    try:
        for name, text in files:
            with open(name, "w", encoding="utf-8", newline="") as file:
                file.write(text)
    except (OSError, UnicodeError) as error:
        os.write(answer, b"!" + type(error).__name__.encode())
        os._exit(1)
    for command in commands:
        status = call(command)
        if status:
            reason = f"signal {-status}" if status < 0 else f"exit {status}"
            os.write(answer, f"!{os.path.basename(command[0])}: {reason}".encode())
            os._exit(1)
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
