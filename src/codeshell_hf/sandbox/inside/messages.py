"""Messages between the package and worker processes, one JSON object per line, and how verdicts are reached."""

from __future__ import annotations

import signal
from typing import TypedDict


class LimitValues(TypedDict):
    """The values of `Limits`."""

    timeout_s: float
    max_memory_bytes: int
    max_processes: int
    max_file_bytes: int
    max_files: int
    max_output_bytes: int


class WorkerRequest(TypedDict, total=False):
    """A program to run.

    `kind` is "python", "strict" or "commands"; the other keys are those of `Program`, `StrictProgram` and
    `CommandProgram`. The worker itself adds `folder`, `secret` and `answer`.
    """

    kind: str
    limits: LimitValues
    source: str
    tests: str
    prelude: str
    names: list[str]
    files: list[list[str]]
    commands: list[list[str]]
    is_proven: bool
    folders: list[str]
    folder: str
    secret: str
    answer: str


class WorkerReply(TypedDict, total=False):
    """A verdict, or `trouble` if the sandbox itself failed."""

    status: str
    reason: str
    seconds: float
    output: str
    trouble: str


class Handshake(TypedDict, total=False):
    """Sent once, when a worker is ready or has failed to start."""

    ready: bool
    python: str
    reason: str


def judge(
    request: WorkerRequest, *, exit_code: int | None, answer: bytes, secret: bytes, tail: bytes
) -> tuple[str, str]:
    """Judges a program that has ended.

    Args:
        exit_code: Negative for a signal; `None` if it was killed at its time limit.
        answer: What it wrote to the verdict's descriptor: the secret, or "!" and the error's type.
        secret: Known only to a program that ran to its end; a command prints it.
        tail: The end of the output.

    Returns:
        Status and reason.
    """
    if exit_code is None:
        return "timed out", "timeout"
    if answer.startswith(b"!"):
        return "failed", answer[1:].decode("utf-8", "replace")
    is_proven = answer == secret or (
        request["kind"] == "commands" and (not request["is_proven"] or secret in tail.replace(b"\0", b""))
    )
    if is_proven and exit_code == 0:
        return "passed", ""
    return "failed", signal.Signals(-exit_code).name if exit_code < 0 else f"exit {exit_code} before the end"
