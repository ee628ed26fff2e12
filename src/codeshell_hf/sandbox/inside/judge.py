"""Runs a built program on one input after another, and compares what it prints.

This process knows the expected outputs, and the program, which is another, only its input.
"""

from __future__ import annotations

from typing import IO

from .outputs import RULES

INPUT, OUTPUT = ".judge.input", ".judge.output"


def find_fault(command: list[str], cases: list[tuple[str, list[str]]], rule: str, timeout_s: float) -> str:
    """What is wrong with a program: empty if it prints a right output for each input.

    Args:
        command: The program with its arguments.
        cases: Each an input and a list of accepted outputs.
        rule: One of `outputs.RULES`.
        timeout_s: For each input.
    """
    for given, accepted in cases:
        with open(INPUT, "w", encoding="utf-8", newline="") as file:
            file.write(given)
        with open(INPUT, "rb") as given_file, open(OUTPUT, "wb") as printed:
            fault = run(command, given_file, printed, timeout_s)
        if fault:
            return fault
        with open(OUTPUT, encoding="utf-8", errors="replace", newline="") as file:
            output = file.read()
        if not any(RULES[rule](output, expected) for expected in accepted):
            return "wrong output"
    return ""


def run(command: list[str], given: IO[bytes], printed: IO[bytes], timeout_s: float) -> str:
    """Runs a program; returns why it failed, empty if it ended by itself with 0."""
    import subprocess  # few programs need it, and every worker would pay for its start

    try:
        done = subprocess.run(  # noqa: S603 - it is isolated
            command, stdin=given, stdout=printed, stderr=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return "time limit of an input"
    except OSError as error:
        return type(error).__name__
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    return f"exit {done.returncode}" if done.returncode else ""
