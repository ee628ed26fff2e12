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
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from . import TAIL_BYTES
from .messages import LENGTH_BYTES
from .programs import Judged, give_secret, run_commands, run_program, show_packages
from .strict import END_S, describe_exit, make_scope, run_strict, serve_program

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
    code = f"import sys; sys.path.insert(0, {HERE!r}); from inside.portable import {entry}; sys.path.pop(0); {entry}()"
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
    folder, own = tempfile.mkdtemp(prefix="program-"), tempfile.mkdtemp(prefix="verdict-")
    answer = os.path.join(own, os.urandom(8).hex())
    try:
        return run({**request, "answer": answer}, folder)
    finally:
        for path in (folder, own):
            shutil.rmtree(path, ignore_errors=True)


def run(request: WorkerRequest, folder: str) -> WorkerReply:
    """Starts and supervises a program.

    Args:
        request: Includes `answer`, the file for its verdict.
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
    return {
        "exit_code": exit_code,
        "answer": answer.decode("utf-8", "replace"),
        "tail": output.end.decode("latin-1"),
        "seconds": time.monotonic() - started,
        "output": output.start.decode("utf-8", "replace"),
    }


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
    show_packages(request.get("packages", ""))
    answer = os.open(request["answer"], os.O_WRONLY | os.O_CREAT, 0o600)
    if request["kind"] == "commands":
        run_commands(
            request["files"],
            request["commands"],
            request["folders"],
            answer,
            call=call_command,
            judged=Judged.of(request),
        )
    elif request["kind"] == "strict":
        run_strict(lambda: start_in_own_process(request), lambda: cast(dict[str, Any], request), answer)
    scope = make_scope(request["module"], has_input=request["has_input"])
    run_program(request["source"], request["tests"], give_secret(request["secret"]), answer, scope)


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


def start_in_own_process(request: WorkerRequest) -> tuple[BinaryIO, BinaryIO, Callable[[], str]]:
    """Runs a program in its own interpreter; returns what `strict.Start` does."""
    process = start("serve_from_own_process", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    calls, replies = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    packed = json.dumps([request["source"], request["module"], request["has_input"]]).encode()
    calls.write(len(packed).to_bytes(LENGTH_BYTES, "little") + packed)
    calls.flush()

    def describe_end() -> str:
        try:
            return describe_exit(process.wait(END_S))
        except subprocess.TimeoutExpired:
            return "it closed its pipe"

    return calls, replies, describe_end


def serve_from_own_process() -> NoReturn:
    """Runs the program that the test process sends, with output to standard error."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    source, module, has_input = json.loads(calls.read(int.from_bytes(calls.read(LENGTH_BYTES), "little")))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    serve_program(source, calls, replies, module, has_input=has_input)


def main() -> None:
    """Ignores SIGINT, sends the handshake, serves requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handshake: Handshake = {"ready": True, "python": platform.python_version()}
    sys.stdout.buffer.write(json.dumps(handshake).encode() + b"\n")
    sys.stdout.buffer.flush()
    while lengths := sys.stdin.buffer.read(2 * LENGTH_BYTES):
        sizes = (int.from_bytes(lengths[place:][:LENGTH_BYTES], "little") for place in (0, LENGTH_BYTES))
        parts = [json.loads(sys.stdin.buffer.read(size)) for size in sizes]
        request = cast("WorkerRequest", {**parts[0], **parts[1]})
        sys.stdout.buffer.write(json.dumps(run_once(request)).encode() + b"\n")
        sys.stdout.buffer.flush()
