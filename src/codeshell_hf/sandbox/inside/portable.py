"""The lean process on systems that are not Linux: each program gets a fresh interpreter, and nothing isolates it.

It answers as `zygote` does and takes thirty times as long to start a program. It limits time, and memory, the size of a
file and processor time where the system has such limits.
"""

import contextlib
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, NoReturn

from . import KEPT_END, PROOF, SECRET_BYTES
from .programs import run_commands, run_program, run_strict, serve_calls

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DRAIN_S = 0.5  # for what still lies in the pipe once a program is gone


def start(entry: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Starts an interpreter that knows this folder and nothing that is installed.

    Args:
        entry: The function of this module that it calls.
        options: As `subprocess.Popen` takes them.

    Returns:
        The process.
    """
    code = f"import sys; sys.path.insert(0, {HERE!r}); from inside.portable import {entry}; {entry}()"
    return subprocess.Popen([sys.executable, "-I", "-S", "-B", "-c", code], **options)  # noqa: S603 - our own file


class Output:
    """Reads what a program prints, keeps its beginning and its end, and drops the rest.

    Args:
        file: From which it is read.
        max_bytes: How much of the beginning is kept.
    """

    def __init__(self, file: Any, max_bytes: int) -> None:
        self.start, self.end = b"", b""
        self._file = file
        self._max_bytes = max_bytes
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := self._file.read1(1 << 16):
            self.start += chunk[: max(0, self._max_bytes - len(self.start))]
            self.end = (self.end + chunk)[-KEPT_END:]

    def finish(self) -> None:
        """Waits until all is read, or until it is clear that a process that got away holds the pipe."""
        self._thread.join(DRAIN_S)


def judge(request: dict[str, Any]) -> dict[str, Any]:
    """Runs one program and sees it to its end.

    Args:
        request: `kind`, `limits`, and what the kind takes.

    Returns:
        `status`, `reason`, `seconds` and `output`.
    """
    secret = os.urandom(SECRET_BYTES).hex()[:SECRET_BYTES]
    if request["kind"] == "commands":
        request["files"] = [[name, text.replace(PROOF, secret)] for name, text in request["files"]]
    folder, own = tempfile.mkdtemp(prefix="program-"), tempfile.mkdtemp(prefix="verdict-")
    said = os.path.join(own, os.urandom(8).hex())
    try:
        return run({**request, "secret": secret, "answer": said}, folder)
    finally:
        for path in (folder, own):
            shutil.rmtree(path, ignore_errors=True)


def run(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """Starts a program, watches it and reads the verdict.

    Args:
        request: With `secret`, and `answer`, the file to which it is written.
        folder: Where the program works.

    Returns:
        As `judge`.
    """
    limits = request["limits"]
    started = time.monotonic()
    process = start(
        "become_program", cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,  # Windows passes it by
    )  # fmt: skip
    output = Output(process.stdout, limits["max_output_bytes"])
    with contextlib.suppress(OSError), process.stdin as given:  # type: ignore[union-attr]
        given.write(json.dumps(request).encode())
    try:
        status: int | None = process.wait(max(0.0, started + limits["timeout_s"] - time.monotonic()))
    except subprocess.TimeoutExpired:
        status = None
    end_all(process)
    output.finish()
    try:
        with open(request["answer"], "rb") as file:
            answer = file.read()
    except OSError:
        answer = b""
    result = {"seconds": time.monotonic() - started, "output": output.start.decode("utf-8", "replace")}
    if status is None:
        return {**result, "status": "timed out", "reason": "timeout"}
    if answer.startswith(b"!"):
        return {**result, "status": "failed", "reason": answer[1:].decode("utf-8", "replace")}
    secret = request["secret"].encode()
    is_proven = answer == secret or (
        request["kind"] == "commands" and (not request["is_proven"] or secret in output.end.replace(b"\0", b""))
    )
    if is_proven and status == 0:
        return {**result, "status": "passed", "reason": ""}
    reason = signal.Signals(-status).name if status < 0 else f"exit {status} before the end"
    return {**result, "status": "failed", "reason": reason}


def end_all(process: "subprocess.Popen[bytes]") -> None:
    """Kills a program and what it started.

    Args:
        process: The program's.
    """
    if os.name == "nt":
        tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        with contextlib.suppress(OSError):
            subprocess.run(tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # noqa: S603
    elif hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def become_program() -> NoReturn:
    """Turns this interpreter into the program that stands, as JSON, in its input."""
    request = json.loads(sys.stdin.buffer.read())
    limit_resources(request["limits"])
    os.environ["HOME"] = os.getcwd()
    question, write = os.pipe()
    os.write(write, request["secret"].encode())
    os.close(write)
    answer = os.open(request["answer"], os.O_WRONLY | os.O_CREAT, 0o600)
    if request["kind"] == "commands":
        commands = (request["files"], request["commands"], request["folders"])
        run_commands(*commands, question, answer, call=call_command)
    elif request["kind"] == "strict":
        parts = (request["source"], request["prelude"], request["tests"], request["names"])
        run_strict(*parts, question, answer, start=start_apart)
    run_program(request["source"], request["tests"], question, answer)


def limit_resources(limits: dict[str, Any]) -> None:
    """Sets those limits that this system has and takes.

    Args:
        limits: The values of `Limits`.
    """
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return
    for name, value in (
        ("RLIMIT_AS", limits["max_memory_bytes"]),
        ("RLIMIT_FSIZE", limits["max_file_bytes"]),
        ("RLIMIT_CPU", int(limits["timeout_s"]) + 2),
        ("RLIMIT_CORE", 0),
    ):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (value, value))


def call_command(command: list[str]) -> int:
    """Runs a command.

    Args:
        command: A program and its arguments.

    Returns:
        Its exit code, 127 if there is no such program; negative if a signal ended it.
    """
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S603
    except OSError:
        return 127


def start_apart(source: str) -> tuple[Any, Any]:
    """Starts the process of a program whose tests run here.

    Args:
        source: The program.

    Returns:
        Where calls go, and where answers come from.
    """
    process = start("serve_apart", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    packed = source.encode("utf-8", "surrogatepass")
    process.stdin.write(len(packed).to_bytes(8, "little") + packed)  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]
    return process.stdin, process.stdout


def serve_apart() -> NoReturn:
    """Runs the program that its tests' process sends, whose prints go where errors go, and answers calls."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    source = calls.read(int.from_bytes(calls.read(8), "little")).decode("utf-8", "surrogatepass")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    serve_calls(source, calls, replies)


def main() -> None:
    """Greets, and answers requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    greeting: dict[str, Any] = {"ready": True, "python": platform.python_version()}
    sys.stdout.buffer.write(json.dumps(greeting).encode() + b"\n")
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(judge(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()
