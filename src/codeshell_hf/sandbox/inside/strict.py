"""Runs a program and its tests in two processes, so that the verdict cannot be forged.

The worker process knows a program, and never its tests: these come through a file that only the tests' process reads,
after the program's process was forked from it. So no memory, frame or descriptor of the program has a byte of the
tests, of the values that they expect, or of the secret that stands for success. Calls and results cross by `border`,
and every comparison, with the tests' own tolerance, is made by the tests' interpreter on plain values.

Tests see the names of the program that they, their prelude and Python do not define. Modules that they use without
importing them are their own, too.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, BinaryIO, NoReturn

from .border import (
    TO_OBJECTS_OF_PROGRAMS,
    TO_OBJECTS_OF_TESTS,
    Border,
    Malformed,
    Remote,
    RemoteObject,
    list_error_names,
)

# Starts a program; the files of calls and replies, and a function that says how it ended.
Start = Callable[[], tuple[BinaryIO, BinaryIO, Callable[[], str]]]
STANDARD_LIBRARY = getattr(sys, "stdlib_module_names", frozenset(("math",)))  # Python 3.9 has no list
END_S = 0.2  # for a program that has closed its pipe to end


class Namespace:
    """The names of a program."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope

    def __getitem__(self, names: list[str]) -> dict[str, object]:
        """The values of those names that it has, without modules."""
        return {
            name: self.scope[name]
            for name in names
            if name in self.scope and not isinstance(self.scope[name], ModuleType)
        }


def run_strict(start: Start, read_tests: Callable[[], dict[str, Any]], answer: int) -> NoReturn:
    """Starts a program, reads its tests and runs them in this process.

    Args:
        start: Starts the program.
        read_tests: Reads `tests`, `prelude`, `names` and `secret`.
        answer: Descriptor to which the verdict is written.
    """
    calls, replies, describe_end = start()
    tests = read_tests()

    def end(text: str) -> NoReturn:
        os.write(answer, text.encode("utf-8", "replace")[:80])
        os._exit(0 if text == tests["secret"] else 1)

    class Guarded(Border):
        """Tests cannot catch the end of the program, or a malformed message."""

        def receive(self) -> list[Any]:
            try:
                return super().receive()
            except Malformed as error:
                end(f"!no reply: {error}")
            except TimeoutError:  # of an alarm that the tests have set; no pipe raises it
                raise
            except (OSError, EOFError):
                end(f"!{describe_end()}")

        def write(self, packed: object) -> None:
            with contextlib.suppress(OSError):  # the next message to read says why, or that there is none
                super().write(packed)

    border = Guarded(replies, calls, TO_OBJECTS_OF_TESTS)
    try:
        scope = {"__name__": "__main__", "__builtins__": builtins}
        execute(tests["prelude"], "prelude", scope, [], border)
        for name in tests["names"]:
            scope.pop(name, None)
        execute(tests["tests"], "tests", scope, tests["names"], border)
        sys.stdout.flush()
    except BaseException as error:
        name = type(error).__name__
        with contextlib.suppress(Exception):
            os.write(2, f"{name}: {error}\n".encode("utf-8", "replace"))
        end(f"!{name}")
    end(tests["secret"])


def execute(source: str, part: str, scope: dict[str, Any], names: list[str], border: Border) -> None:
    """Runs a part of the tests, with names of the program and of the standard library that it uses and nobody defines.

    Args:
        names: Taken from the program, even if Python has one of that name.
    """
    code = compile(source, part, "exec", dont_inherit=True)
    used = list_names(code) - scope.keys()
    if any(name[0].isupper() or name in STANDARD_LIBRARY for name in used):
        nodes = list(ast.walk(ast.parse(source, part)))  # rarely needed, and takes as long as the rest
        modules = {
            node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        for name in (modules & used & STANDARD_LIBRARY) - set(names):
            scope[name] = importlib.import_module(name)
        loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        if any(name[0].isupper() for name in loaded & used - list_bound(nodes) - vars(builtins).keys()):
            border.remote_type = RemoteObject
    wanted = sorted(name for name in used - scope.keys() if name in names or not hasattr(builtins, name))
    if wanted or part == "tests":  # at least once, which waits for the program to have run
        found = border.ask("item", Remote(border, 0), wanted)
        if not isinstance(found, dict) or not found.keys() <= set(wanted):
            raise Malformed("no names")
        scope.update(found)
    exec(code, scope)  # noqa: S102 - as asked


def list_names(code: CodeType) -> set[str]:
    """The names that are not local in some code, with those of attributes."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(list_names, inner))


def list_bound(nodes: list[ast.AST]) -> set[str]:
    """The names of classes, imports and variables that tests define."""
    bound = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    bound |= {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return bound | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


class ClosedInput(io.StringIO):
    """Standard input that cannot be read, as other harnesses give it."""

    def refuse(self, *_: object) -> NoReturn:
        """Raises an OSError."""
        raise OSError("the program has no standard input")

    read = readline = readlines = refuse

    def readable(self) -> bool:
        """That it is not."""
        return False


def make_scope(module: str, *, has_input: bool) -> dict[str, Any]:
    """The scope of a program, whose standard input is closed to it unless `has_input`."""
    if not has_input:
        sys.stdin = ClosedInput()
    return {"__name__": module, "__builtins__": builtins}


def serve_program(source: str, calls: BinaryIO, replies: BinaryIO, module: str, *, has_input: bool) -> NoReturn:
    """Runs a program and does what its tests ask for, until they end."""
    border = FlushingBorder(calls, replies, TO_OBJECTS_OF_PROGRAMS)
    scope = make_scope(module, has_input=has_input)
    border.lent.append(Namespace(scope))
    try:
        exec(compile(source, "program", "exec", dont_inherit=True), scope)  # noqa: S102 - as asked
    except BaseException as error:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            border.send(["raised", list_error_names(type(error)), [str(error)]])
        os._exit(1)
    with contextlib.suppress(BaseException):
        border.serve()
    os._exit(1)


class FlushingBorder(Border):
    """Writes out what the program has printed before each message."""

    def write(self, packed: object) -> None:
        """Writes a packed message."""
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        super().write(packed)


def fork_program(
    source: str, hidden: list[int], module: str, *, has_input: bool
) -> tuple[BinaryIO, BinaryIO, Callable[[], str]]:
    """Runs a program in a fork of this process.

    Args:
        hidden: Descriptors that are closed in it.
    """
    calls, replies = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        for descriptor in (*hidden, calls[1], replies[0]):
            os.close(descriptor)
        serve_program(source, os.fdopen(calls[0], "rb"), os.fdopen(replies[1], "wb"), module, has_input=has_input)
    os.close(calls[0])
    os.close(replies[1])
    return os.fdopen(calls[1], "wb"), os.fdopen(replies[0], "rb"), lambda: describe_end(child)


def describe_end(child: int) -> str:
    """Says how a program ended that has closed its pipe."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return describe_exit(os.waitstatus_to_exitcode(status))
        time.sleep(0.001)
    return "it closed its pipe"


def describe_exit(code: int) -> str:
    """Says what an exit code means before the tests have ended."""
    return signal.Signals(-code).name if code < 0 else f"exit {code} before the end"
