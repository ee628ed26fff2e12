"""What a child of the lean process turns into: a program and its tests, in one of three ways.

"python" runs a program and its tests in one interpreter. It can forge its success, since both share a scope: it has to
know this file, find the two descriptors in the frames beneath its own and copy the secret from one to the other, or
give back a value that equals everything. Leaving early, printing a mark, and replacing built-in functions do not help.

"strict" runs the program in a process of its own. Its functions are called through a pipe, and what comes back is built
anew out of plain values in the process of the tests, which it cannot reach. None of the forgeries above is left.

"commands" writes files and runs commands such as a compiler and what it made. It passes if each ends with 0 and the
last prints a text that only its tests print; a program that reads its own source can find that text.
"""

import builtins
import contextlib
import io
import json
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from . import SECRET_BYTES

SCRATCH = "/tmp"  # noqa: S108 - a file system of the program's own
MAX_REPLY_BYTES = 1 << 24
# What may come back from a program, besides what pickle knows without names.
PLAIN_TYPES = {
    ("builtins", name): getattr(builtins, name)
    for name in ("set", "frozenset", "complex", "bytearray", "range", "slice", "int", "str", "list", "dict")
} | {("collections", name): None for name in ("OrderedDict", "Counter", "defaultdict", "deque")}
PLAIN_TYPES |= {("datetime", name): None for name in ("date", "datetime", "time", "timedelta", "timezone")}
PLAIN_TYPES |= {("decimal", "Decimal"): None, ("fractions", "Fraction"): None}


def become_program(request: dict[str, Any], pipes: dict[str, int], *, rung: str) -> NoReturn:
    """Turns this child into the program.

    Args:
        request: `kind`, `limits`, `folder`, and what the kind takes.
        pipes: Descriptors by name.
        rung: What isolates it.
    """
    # Linux's own, which `portable` does without.
    from .walls import (
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
        # The two ends of the verdict's way lie where a guess does not find them, and everything else is closed.
        question = 256 + int.from_bytes(os.urandom(2), "little") % 350
        answer = question + 1 + int.from_bytes(os.urandom(2), "little") % 350
        os.dup2(pipes["question"], question)
        os.dup2(pipes["answer"], answer)
        for first, last in ((3, question), (question + 1, answer), (answer + 1, 2048)):
            os.closerange(first, last)
        limits = request["limits"]
        if rung == "namespaces":
            options = f"size={limits['max_file_bytes']},nr_inodes={limits['max_files']},mode=1777"
            cover_processes(is_shown=request["kind"] == "commands")
            mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, options)
            drop_capabilities()
        os.chdir(request["folder"])
        limit_resources(limits)
        if rung != "none":
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
    """Runs the program and its tests, and only then asks for the secret that says so.

    Args:
        source: The program.
        tests: What runs after it.
        question: Descriptor from which the secret is read.
        answer: Descriptor to which it is written.
    """
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    # The program may replace any function by its own; these names are looked up before it runs.
    write, read, leave, execute, flush = os.write, os.read, os._exit, exec, sys.stdout.flush
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
            leave(1)
    write(answer, read(question, SECRET_BYTES))
    leave(0)


class PlainUnpickler(pickle.Unpickler):
    """Builds plain values, and nothing that a program has defined itself."""

    def find_class(self, module: str, name: str) -> Any:
        """Gives a type that a value may be of.

        Args:
            module: Its module.
            name: Its name.

        Returns:
            The type.

        Raises:
            TypeError: If it is not plain.
        """
        if (module, name) not in PLAIN_TYPES:
            raise TypeError(f"{module}.{name} is no plain value")
        return super().find_class(module, name)


def send(file: Any, value: object) -> None:
    """Writes a value with its length before it.

    Args:
        file: To which.
        value: Any that pickle takes.
    """
    packed = pickle.dumps(value, protocol=4)
    file.write(len(packed).to_bytes(8, "little") + packed)
    file.flush()


def receive(file: Any) -> Any:
    """Reads a value that may come from a program.

    Args:
        file: From which.

    Returns:
        The value, of plain types.

    Raises:
        EOFError: If the other side is gone.
        ValueError: If it is too large.
    """
    size = int.from_bytes(file.read(8), "little")
    if not size:
        raise EOFError("the program ended")
    if size > MAX_REPLY_BYTES:
        raise ValueError(f"an answer of {size} bytes")
    return PlainUnpickler(io.BytesIO(file.read(size))).load()


def fork_apart(question: int, answer: int) -> Callable[[str], tuple[Any, Any]]:
    """Says how a fork becomes the process of a program whose tests run here.

    Args:
        question: Descriptor that it must not have.
        answer: Likewise.

    Returns:
        A function from a program to where calls go, and where answers come from.
    """

    def start(source: str) -> tuple[Any, Any]:
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
    start: Callable[[str], tuple[Any, Any]],
) -> NoReturn:
    """Runs a program in a process of its own, and its tests here.

    Args:
        source: The program.
        prelude: What the tests need and the program does not decide.
        tests: What calls the program's functions.
        names: Of these functions.
        question: Descriptor from which the secret is read.
        answer: Descriptor to which it is written.
        start: Starts the program, and gives where calls go and where answers come from.
    """
    ask, hear = start(source)
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        outcome, reason = receive(hear)
        if outcome == "raised":
            raise make_error(reason)
        exec(compile(prelude, "prelude", "exec", dont_inherit=True), scope)  # noqa: S102 - that is what it is for
        scope.update({name: make_proxy(name, ask, hear) for name in names})
        exec(compile(tests, "tests", "exec", dont_inherit=True), scope)  # noqa: S102
    except BaseException as error:
        os.write(answer, b"!" + type(error).__name__.encode("utf-8", "replace")[:80])
        os._exit(1)
    os.write(answer, os.read(question, SECRET_BYTES))
    os._exit(0)


def make_proxy(name: str, ask: Any, hear: Any) -> Any:
    """Makes a function that is answered by the program.

    Args:
        name: Of the program's function.
        ask: Where calls go.
        hear: Where answers come from.

    Returns:
        The function.
    """

    def call(*arguments: Any, **named: Any) -> Any:
        send(ask, (name, arguments, named))
        outcome, *values = receive(hear)
        if outcome == "raised":
            raise make_error(values[0])
        # A function may change what it was given.
        for given, left in zip(arguments, values[1], strict=False):
            if type(given) is type(left) and isinstance(given, list):
                given[:] = left
            elif type(given) is type(left) and isinstance(given, (dict, set)):
                given.clear()
                given.update(left)
        return values[0]

    return call


def make_error(name: str) -> BaseException:
    """Makes an error of the kind that a program raised.

    Args:
        name: Of the kind.

    Returns:
        An error of that name if it is built in.
    """
    kind = getattr(builtins, str(name), None)
    return kind() if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError(name)


def serve_calls(source: str, calls: Any, replies: Any) -> NoReturn:
    """Runs a program and answers calls of its functions.

    Args:
        source: The program.
        calls: Where they come from.
        replies: Where answers go.
    """
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
        folders: Where commands find others, first of all.
        question: Descriptor of the secret, which commands do not see.
        answer: Descriptor to which the command that failed is written.
        call: Runs a command and gives its exit code, negative if a signal ended it.
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
            said = f"signal {-status}" if status < 0 else f"exit {status}"
            os.write(answer, f"!{os.path.basename(command[0])}: {said}".encode())
            os._exit(1)
    os._exit(0)


def fork_command(command: list[str]) -> int:
    """Runs a command in a fork.

    Args:
        command: A program and its arguments.

    Returns:
        Its exit code, 127 if there is no such program; negative if a signal ended it.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.execvp(command[0], command)  # noqa: S606 - inside the walls
        os._exit(127)
    return os.waitstatus_to_exitcode(wait_for(child))


def wait_for(child: int) -> int:
    """Waits for one child; as the first process it also sees others end.

    Args:
        child: Its process id.

    Returns:
        Its status.
    """
    while True:
        ended, status = os.wait()
        if ended == child:
            return status


def enter() -> NoReturn:
    """Becomes the program after another program has built the walls, as its command line says."""
    given = json.loads(sys.argv[1])
    with os.fdopen(given["pipes"].pop("request"), "rb") as file:
        request = json.loads(file.read())
    become_program(request, given["pipes"], rung="bubblewrap")
