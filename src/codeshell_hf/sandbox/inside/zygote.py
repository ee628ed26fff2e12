"""A worker process: reads requests, runs each program in a fork, and replies with a JSON line.

What is sealed in a request (tests, and the secret of success) goes from the input to a file without being read here,
and what a program and its tests print, and how they end, is read by a process that is forked for this program alone. So
no program is forked from a process that held anything of its tests, or of the tests of programs before it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import platform
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from . import TAIL_BYTES
from .isolation import (
    become_nobody,
    enter_namespaces,
    fork_into_namespaces,
    inherit_orphans,
    libc,
)
from .messages import LENGTH_BYTES
from .programs import SCRATCH, become_program
from .system_calls import CALLS

if TYPE_CHECKING:
    from .messages import Handshake, LimitValues, WorkerReply, WorkerRequest

MEASURED_EVERY_S = 0.05  # the memory of all processes of a program
_PAGES = re.compile(rb"^Rss(Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
IN_BUBBLEWRAP = (
    "import sys; sys.path.insert(0, '/sandbox'); from inside.programs import enter; sys.path.pop(0); enter()"
)


class Zygote:
    """Runs programs one after another.

    Args:
        backend: "namespaces", "bubblewrap", "container" or "none".
        shown: Files and folders that programs may read.
        bubblewrap: Path of bwrap, for its backend.
    """

    def __init__(self, backend: str, shown: list[str], bubblewrap: str) -> None:
        self.backend = backend
        self.shown = shown
        self.bubblewrap = bubblewrap
        self.null = os.open("/dev/null", os.O_RDWR)
        if backend != "none" and platform.machine() not in CALLS:
            raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
        if backend == "namespaces":
            enter_namespaces(shown)
        if backend == "bubblewrap" and os.geteuid() == 0:
            become_nobody()
        if backend == "container":
            inherit_orphans()

    def serve(self, requests: int, replies: BinaryIO) -> None:
        """Serves requests until the input ends.

        Args:
            requests: Descriptor.
        """
        while lengths := read_exactly(requests, 2 * LENGTH_BYTES):
            header, rest = (int.from_bytes(lengths[place:][:LENGTH_BYTES], "little") for place in (0, LENGTH_BYTES))
            request: WorkerRequest = json.loads(read_exactly(requests, header))
            sealed = os.memfd_create("sealed")
            move_unread(requests, sealed, rest)
            self.run_alone(request, sealed, replies)
            os.close(sealed)

    def run_alone(self, request: WorkerRequest, sealed: int, replies: BinaryIO) -> None:
        """Runs one program until it ends or is killed, replies, and removes its files.

        Args:
            request: `folder` is set here.
            sealed: Descriptor of a file for the process of the tests.
        """
        has_own_files = self.backend in ("namespaces", "bubblewrap")
        request["folder"] = SCRATCH if has_own_files else tempfile.mkdtemp(dir=SCRATCH, prefix="program-")
        try:
            watcher = os.fork()
            if watcher == 0:
                with contextlib.suppress(BaseException):  # the other side sees that there is no reply
                    replies.write(json.dumps(self.run(request, sealed)).encode() + b"\n")
                    replies.flush()
                    os._exit(0)
                os._exit(1)
            if os.waitpid(watcher, 0)[1] != 0:
                sys.exit("a program could not be watched")
        finally:
            if not has_own_files:
                clean_up(request["folder"], is_alone=self.backend == "container")

    def run(self, request: WorkerRequest, sealed: int) -> WorkerReply:
        """Forks and supervises a program."""
        ends = {name: os.pipe() for name in ("answer", "output", "trouble")}
        started = time.monotonic()
        child = fork_into_namespaces() if self.backend == "namespaces" else os.fork()
        if child == 0:
            pipes = {name: ends[name][1] for name in ends} | {"sealed": sealed, "null": self.null}
            if self.backend == "bubblewrap":
                self.enter_bubblewrap(request, pipes)
            become_program(request, pipes, backend=self.backend)
        for name in ends:
            os.close(ends[name][1])
        head, tail, is_late, is_large = watch(child, ends["output"][0], started, request["limits"])
        exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for name in ("answer", "trouble"):
            os.set_blocking(ends[name][0], False)
        answer, trouble = read_rest(ends["answer"][0]), read_rest(ends["trouble"][0])
        for name in ends:
            os.close(ends[name][0])
        if exit_code > 128:  # bubblewrap's report of a signal
            exit_code = 128 - exit_code
        reply: WorkerReply = {
            "exit_code": None if is_late else exit_code,
            "answer": "!memory limit" if is_large else answer.decode("utf-8", "replace"),
            "tail": tail.decode("latin-1"),
            "seconds": time.monotonic() - started,
            "output": head.decode("utf-8", "replace"),
        }
        if trouble:
            reply["trouble"] = trouble.decode("utf-8", "replace").strip()
        return reply

    def enter_bubblewrap(self, request: WorkerRequest, pipes: dict[str, int]) -> NoReturn:
        """Becomes bubblewrap, which starts an isolated interpreter."""
        memory = os.memfd_create("request")
        os.write(memory, json.dumps(request).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        pipes = {**pipes, "request": memory}
        for descriptor in pipes.values():
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - as it takes it
        os.dup2(pipes["null"], 0)
        os.dup2(pipes["output"], 1)
        os.dup2(pipes["trouble"], 2)
        command = [
            self.bubblewrap,
            "--as-pid-1",
            *list_bubblewrap_options(self.shown, request["limits"]["max_file_bytes"]),
        ]
        if request["kind"] == "commands":  # some runtimes need it to find themselves
            command += ["--proc", "/proc"]
        interpreter = [sys.executable, "-I", "-S", "-B", "-c", IN_BUBBLEWRAP, json.dumps({"pipes": pipes})]
        try:
            os.execv(command[0], [*command, "--remount-ro", "/", "--", *interpreter])  # noqa: S606 - the isolation itself
        except OSError as error:
            os.write(pipes["trouble"], str(error).encode())
        os._exit(1)


def read_exactly(descriptor: int, length: int) -> bytes:
    """Reads so many bytes and none after them; empty if the input has ended."""
    data = b""
    while len(data) < length:
        chunk = os.read(descriptor, length - len(data))
        if not chunk:
            return b""
        data += chunk
    return data


def move_unread(source: int, target: int, length: int) -> None:
    """Moves bytes from a pipe to a file within the kernel; where it cannot, a process of its own copies them."""
    moved = 0
    while moved < length:
        count = libc.splice(source, None, target, None, ctypes.c_size_t(length - moved), 0)
        if count <= 0:
            break
        moved += count
    if moved < length:
        copier = os.fork()
        if copier == 0:
            os.write(target, read_exactly(source, length - moved))
            os._exit(0)
        os.waitpid(copier, 0)


def list_bubblewrap_options(shown: list[str], max_file_bytes: int) -> list[str]:
    """Lists bubblewrap's options.

    Args:
        shown: Files and folders that programs may read.
        max_file_bytes: Size of the file system for programs' own files.
    """
    options = [
        *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
        *("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--clearenv"),
    ]
    for name, value in (("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8"), ("HOME", SCRATCH)):
        options += ["--setenv", name, value]
    for path in shown:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            options += ["--ro-bind", path, path]
    for device in ("null", "zero", "urandom"):
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    options += ["--ro-bind", os.path.abspath("inside"), "/sandbox/inside"]
    return [*options, "--size", str(max_file_bytes), "--tmpfs", SCRATCH, "--chdir", SCRATCH]


def clean_up(folder: str, *, is_alone: bool) -> None:
    """Removes the files of a program, if they do not vanish with it.

    Args:
        is_alone: Whether all other processes belong to programs, and are killed.
    """
    if is_alone:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:  # reaps the killed
                os.waitpid(-1, 0)
        for name in os.listdir(SCRATCH):
            path = os.path.join(SCRATCH, name)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    shutil.rmtree(folder, ignore_errors=True)


def measure_tree(root: int) -> int:
    """Bytes of memory that a process and its descendants hold, with shared memory, without pages of files."""
    total, shared, waiting = 0, 0, [root]
    while waiting:
        process = waiting.pop()
        try:
            with open(f"/proc/{process}/status", "rb") as file:
                sizes = dict(_PAGES.findall(file.read()))
            total += int(sizes.get(b"Anon", 0))
            shared = max(shared, int(sizes.get(b"Shmem", 0)))
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/children", "rb") as file:
                    waiting += map(int, file.read().split())
        except OSError:  # it has ended
            continue
    return (total + shared) << 10


def watch(child: int, output: int, started: float, limits: LimitValues) -> tuple[bytes, bytes, bool, bool]:
    """Reads a program's output until it ends, times out or is too large, and then kills all of its processes.

    Args:
        child: Process id of the program.
        output: Descriptor.
        started: By the monotonic clock.

    Returns:
        The beginning of its output, the end of it, whether it timed out, and whether it held too much memory.
    """
    most = limits["max_resident_bytes"] or limits["max_memory_bytes"]
    due = time.monotonic() + MEASURED_EVERY_S
    head, tail = bytearray(), b""
    deadline = started + limits["timeout_s"]
    os.set_blocking(output, False)
    life = os.pidfd_open(child)
    poll = select.poll()
    poll.register(life, select.POLLIN)
    poll.register(output, select.POLLIN)
    is_late = is_large = False
    while True:
        events = dict(poll.poll(max(0.0, min(deadline, due) - time.monotonic()) * 1000))
        if output in events:
            try:
                chunk = os.read(output, 1 << 16)
            except BlockingIOError:
                chunk = b"?"
            if chunk:
                head += chunk[: max(0, limits["max_output_bytes"] - len(head))]
                tail = (tail + chunk)[-TAIL_BYTES:]
            else:
                poll.unregister(output)
        if life in events:
            break
        if time.monotonic() >= deadline:
            is_late = True
            break
        if time.monotonic() >= due:
            if measure_tree(child) > most:
                is_large = True
                break
            due = time.monotonic() + MEASURED_EVERY_S
    # In a PID namespace it is the init process, and the kernel kills all others with it.
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    os.close(life)
    rest = read_rest(output)
    head += rest[: max(0, limits["max_output_bytes"] - len(head))]
    return bytes(head), tail + rest, is_late, is_large


def read_rest(descriptor: int) -> bytes:
    """Reads up to 64 kB from a non-blocking pipe."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def main() -> None:
    """Ignores SIGINT, sends the handshake, serves requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # a soft limit may be too low for its descriptors
    settings = json.loads(sys.argv[1])
    requests, replies = os.dup(0), os.fdopen(os.dup(1), "wb")
    zygote = None
    handshake: Handshake
    try:
        zygote = Zygote(settings["backend"], settings["shown"], settings["bubblewrap"])
        handshake = {"ready": True, "python": platform.python_version()}
    except OSError as error:
        handshake = {"ready": False, "reason": str(error.strerror)}
    replies.write(json.dumps(handshake).encode() + b"\n")
    replies.flush()
    if zygote is not None:
        gc.freeze()  # else each child's first collection copies every page
        zygote.serve(requests, replies)
