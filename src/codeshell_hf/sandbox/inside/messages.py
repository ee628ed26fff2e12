"""Messages between the package and worker processes, and how verdicts are reached.

A request is two lengths, a header and what is sealed, both JSON. On Linux a worker process reads the header alone, and
moves the rest unread into a file for the process of the tests, so that programs are forked from a process that never
held their tests. A reply is one JSON object on a line, and the package reaches the verdict.
"""

from __future__ import annotations

import json
import signal
from typing import TypedDict

SEALED = (
    "tests",
    "prelude",
    "names",
    "files",
    "commands",
    "is_proven",
    "folders",
    "secret",
    "cases",
    "rule",
    "case_timeout_s",
)
LENGTH_BYTES = 8


class LimitValues(TypedDict):
    """The values of `Limits`."""

    timeout_s: float
    max_memory_bytes: int
    max_processes: int
    max_file_bytes: int
    max_files: int
    max_output_bytes: int
    max_resident_bytes: int | None


class WorkerRequest(TypedDict, total=False):
    """A program to run.

    `kind` is "python", "strict" or "commands"; the other keys are those of `Program` and `CommandProgram`. The pool
    adds `secret`, and the worker `folder` and `answer`.
    """

    kind: str
    limits: LimitValues
    source: str
    module: str
    has_input: bool
    packages: str
    tests: str
    prelude: str
    names: list[str]
    files: list[list[str]]
    commands: list[list[str]]
    is_proven: bool
    cases: list[list[object]]
    rule: str
    case_timeout_s: float
    folders: list[str]
    folder: str
    secret: str
    answer: str


class WorkerReply(TypedDict, total=False):
    """How a program ended, or `trouble` if the sandbox itself failed.

    `exit_code` is negative for a signal, and `None` if the program was killed at its time limit. `answer` is what was
    written to the verdict's descriptor: the secret, or "!" and the error's type. `output` is the beginning of the
    output, and `tail` its end, with a character for each byte.
    """

    exit_code: int | None
    answer: str
    tail: str
    seconds: float
    output: str
    trouble: str


class Handshake(TypedDict, total=False):
    """Sent once, when a worker is ready or has failed to start."""

    ready: bool
    python: str
    reason: str


def frame(request: WorkerRequest) -> bytes:
    """The bytes of a request."""
    parts = [
        {key: value for key, value in request.items() if (key in SEALED) == is_sealed} for is_sealed in (False, True)
    ]
    texts = [json.dumps(part).encode() for part in parts]
    return b"".join([len(text).to_bytes(LENGTH_BYTES, "little") for text in texts] + texts)


def judge(request: WorkerRequest, reply: WorkerReply) -> tuple[str, str]:
    """Judges a program that has ended.

    Args:
        request: Its `secret` is known only to a program that ran to its end; a command prints it.

    Returns:
        Status and reason.
    """
    exit_code, answer, secret = reply["exit_code"], reply["answer"], request["secret"]
    if exit_code is None:
        return "timed out", "timeout"
    if answer.startswith("!"):
        return "failed", answer[1:]
    is_proven = answer == secret or (
        request["kind"] == "commands"
        and not request["cases"]
        and (not request["is_proven"] or secret in reply["tail"].replace("\0", ""))
    )
    if is_proven and exit_code == 0:
        return "passed", ""
    return "failed", signal.Signals(-exit_code).name if exit_code < 0 else f"exit {exit_code} before the end"
