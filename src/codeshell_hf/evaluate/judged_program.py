"""Runs a program on one input after another, each in a fork of its own; the sandbox runs this file's text.

It imports nothing of the package, and runs in Python 3.9 or later.
"""

from __future__ import annotations

import os
import sys
from typing import Any

MAX_OUTPUT_BYTES = 1 << 23


def run_on_input(given: str) -> str:
    """What the program prints that reads a text.

    Raises:
        RuntimeError: If it does not end by itself, or with an error.
    """
    code, scope, name = program_of_judge  # type: ignore[name-defined] # noqa: F821 - set below this text
    with open("judge.input", "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - started often
        file.write(given)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        become(code, scope, name, write)
    os.close(write)
    printed = b""
    while len(printed) < MAX_OUTPUT_BYTES:
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        printed += chunk
    os.close(read)
    status = os.waitpid(child, 0)[1]
    if status:
        raise RuntimeError("the program ended with an error")
    return printed.decode("utf-8", "replace")


def become(code: Any, scope: dict[str, Any], name: str, write: int) -> None:
    """Turns this fork into the program, with its own standard input and output."""
    status = 1
    try:
        source = os.open("judge.input", os.O_RDONLY)
        os.dup2(source, 0)
        os.dup2(write, 1)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - until it ends
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        try:
            if code is not None:
                exec(code, scope)  # noqa: S102 - as asked
            if name:
                scope[name]()
        except SystemExit:
            pass
        sys.stdout.flush()
        status = 0
    finally:
        os._exit(status)
