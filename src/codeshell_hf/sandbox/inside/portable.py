"""The worker process on systems other than Linux: each program gets a new interpreter, without isolation.

It replies as `zygote` does, but takes thirty times as long to start a program. It limits time and, where the system
supports it, memory, file size and CPU time.
"""

from __future__ import annotations

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
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from . import PROOF, SECRET_BYTES, TAIL_BYTES
from .messages import judge
from .programs import run_commands, run_program, run_strict, serve_calls

if TYPE_CHECKING:
    from .messages import Handshake, LimitValues, WorkerReply, WorkerRequest

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DRAIN_S = 0.5  # for the rest of the pipe after a program has ended


def start(entry: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts an interpreter with access to this folder and no installed packages.

    Args:
        entry: The function of this module that it calls.
        options: Of `subprocess.Popen`.
    """
    code = f"import sys; sys.path.insert(0, {HERE!r}); from inside.portable import {entry}; {entry}()"
    return subprocess.Popen([sys.executable, "-I", "-S", "-B", "-c", code], **options)  # noqa: S603 - our own file


class OutputReader:
    """Reads a program's output, keeps its beginning and end, and drops the rest.

    Args:
        file: The pipe.
        max_bytes: Size of the kept beginning.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self.start, self.end = b"", b""
        self._file = file
        self._max_bytes = max_bytes
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._file.fileno(), 1 << 16):
            self.start += chunk[: max(0, self._max_bytes - len(self.start))]
            self.end = (self.end + chunk)[-TAIL_BYTES:]

    def finish(self) -> None:
        """Waits for the rest, but not for an escaped process that still has the pipe open."""
        self._thread.join(DRAIN_S)


def run_once(request: WorkerRequest) -> WorkerReply:
    """Runs one program until it ends or is killed."""
    secret = os.urandom(SECRET_BYTES).hex()[:SECRET_BYTES]
    if request["kind"] == "commands":
        request["files"] = [[name, text.replace(PROOF, secret)] for name, text in request["files"]]
    folder, own = tempfile.mkdtemp(prefix="program-"), tempfile.mkdtemp(prefix="verdict-")
    answer = os.path.join(own, os.urandom(8).hex())
    try:
        return run({**request, "secret": secret, "answer": answer}, folder)
    finally:
        for path in (folder, own):
            shutil.rmtree(path, ignore_errors=True)


def run(request: WorkerRequest, folder: str) -> WorkerReply:
    """Starts and supervises a program, and reads the verdict.

    Args:
        request: Includes `secret`, and `answer`, the file for it.
        folder: The working folder.
    """
    limits = request["limits"]
    started = time.monotonic()
    process = start(
        "become_program", cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,  # ignored by Windows
    )  # fmt: skip
    output = OutputReader(cast(IO[bytes], process.stdout), limits["max_output_bytes"])
    with contextlib.suppress(OSError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(json.dumps(request).encode())
    try:
        exit_code: int | None = process.wait(max(0.0, started + limits["timeout_s"] - time.monotonic()))
    except subprocess.TimeoutExpired:
        exit_code = None
    end_all(process)
    output.finish()
    try:
        with open(request["answer"], "rb") as file:
            answer = file.read()
    except OSError:
        answer = b""
    secret = request["secret"].encode()
    verdict, reason = judge(request, exit_code=exit_code, answer=answer, secret=secret, tail=output.end)
    seconds = time.monotonic() - started
    return {"seconds": seconds, "output": output.start.decode("utf-8", "replace"), "status": verdict, "reason": reason}


def end_all(process: subprocess.Popen[bytes]) -> None:
    """Kills a program and its children."""
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
    """Turns this interpreter into the program that it reads from its input."""
    request: WorkerRequest = json.loads(sys.stdin.buffer.read())
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


def limit_resources(limits: LimitValues) -> None:
    """Sets the limits that this system supports."""
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

    Returns:
        Its exit code, 127 if there is no such program; negative if a signal ended it.
    """
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S603
    except OSError:
        return 127


def start_apart(source: str) -> tuple[BinaryIO, BinaryIO]:
    """Runs a program in its own process; returns the files for writing calls and reading replies."""
    process = start("serve_apart", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    calls, replies = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    packed = source.encode("utf-8", "surrogatepass")
    calls.write(len(packed).to_bytes(8, "little") + packed)
    calls.flush()
    return calls, replies


def serve_apart() -> NoReturn:
    """Runs the program that the test process sends, with output to standard error, and serves calls."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    source = calls.read(int.from_bytes(calls.read(8), "little")).decode("utf-8", "surrogatepass")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    serve_calls(source, calls, replies)


def main() -> None:
    """Ignores SIGINT, sends the handshake, serves requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handshake: Handshake = {"ready": True, "python": platform.python_version()}
    sys.stdout.buffer.write(json.dumps(handshake).encode() + b"\n")
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(run_once(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()
