"""A worker process: reads requests as JSON lines, runs each program in a fork, and replies with a JSON line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from . import PROOF, SECRET_BYTES, TAIL_BYTES
from .isolation import (
    CALLS,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    become_nobody,
    call,
    enter_namespaces,
    inherit_orphans,
)
from .messages import judge
from .programs import SCRATCH, become_program

if TYPE_CHECKING:
    from .messages import Handshake, LimitValues, WorkerReply, WorkerRequest

IN_BUBBLEWRAP = "import sys; sys.path.insert(0, '/sandbox'); from inside.programs import enter; enter()"


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

    def serve(self, requests: BinaryIO, replies: BinaryIO) -> None:
        """Serves requests until the input ends."""
        for line in requests:
            replies.write(json.dumps(self.judge(json.loads(line))).encode() + b"\n")
            replies.flush()

    def judge(self, request: WorkerRequest) -> WorkerReply:
        """Runs one program until it ends or is killed.

        Args:
            request: `folder` is set here.
        """
        secret = os.urandom(SECRET_BYTES).hex()[:SECRET_BYTES].encode()
        if request["kind"] == "commands":
            request["files"] = [[name, text.replace(PROOF, secret.decode())] for name, text in request["files"]]
        has_own_files = self.backend in ("namespaces", "bubblewrap")
        request["folder"] = SCRATCH if has_own_files else tempfile.mkdtemp(dir=SCRATCH, prefix="program-")
        try:
            return self.run(request, secret)
        finally:
            if not has_own_files:
                clean_up(request["folder"], is_alone=self.backend == "container")

    def run(self, request: WorkerRequest, secret: bytes) -> WorkerReply:
        """Forks, supervises and reads the verdict; only a program that runs to its end can copy the secret."""
        ends = {name: os.pipe() for name in ("question", "answer", "output", "trouble", "child")}
        os.write(ends["question"][1], secret)
        started = time.monotonic()
        supervisor = os.fork()
        if supervisor == 0:
            self.supervise(request, ends)
        for name in ("answer", "output", "trouble", "child"):
            os.close(ends[name][1])
        os.close(ends["question"][0])
        number = os.read(ends["child"][0], 16)
        child = int(number) if number else None
        head, tail, is_late = watch(supervisor, child, ends["output"][0], started, request["limits"])
        exit_code = os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1])
        for name in ("answer", "trouble"):
            os.set_blocking(ends[name][0], False)
        answer, trouble = read_rest(ends["answer"][0]), read_rest(ends["trouble"][0])
        for name in ("answer", "output", "trouble", "child"):
            os.close(ends[name][0])
        os.close(ends["question"][1])
        if exit_code > 128:  # bubblewrap's report of a signal
            exit_code = 128 - exit_code
        reply: WorkerReply = {"seconds": time.monotonic() - started, "output": head.decode("utf-8", "replace")}
        if trouble:
            reply["trouble"] = trouble.decode("utf-8", "replace").strip()
        else:
            code = None if is_late else exit_code
            verdict = judge(request, exit_code=code, answer=answer, secret=secret, tail=tail)
            reply["status"], reply["reason"] = verdict
        return reply

    def supervise(self, request: WorkerRequest, ends: dict[str, tuple[int, int]]) -> NoReturn:
        """Forks the program and waits for it; in a PID namespace, the first child is its init process."""
        try:
            if self.backend == "namespaces":
                call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC)
            child = os.fork()
        except OSError as error:
            os.write(ends["trouble"][1], str(error).encode())
            os._exit(1)
        if child == 0:
            pipes = {name: ends[name][1] for name in ("answer", "output", "trouble")}
            pipes |= {"question": ends["question"][0], "null": self.null}
            if self.backend == "bubblewrap":
                self.enter_bubblewrap(request, pipes)
            become_program(request, pipes, backend=self.backend)
        os.write(ends["child"][1], str(child).encode())
        os.closerange(3, 2048)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            number = os.WTERMSIG(status)
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(os.waitstatus_to_exitcode(status))

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
        command = [self.bubblewrap, *list_bubblewrap_options(self.shown, request["limits"]["max_file_bytes"])]
        if request["kind"] == "commands":  # some runtimes need it to find themselves
            command += ["--proc", "/proc"]
        interpreter = [sys.executable, "-I", "-S", "-B", "-c", IN_BUBBLEWRAP, json.dumps({"pipes": pipes})]
        try:
            os.execv(command[0], [*command, "--remount-ro", "/", "--", *interpreter])  # noqa: S606 - the isolation itself
        except OSError as error:
            os.write(pipes["trouble"], str(error).encode())
        os._exit(1)


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


def watch(
    supervisor: int, child: int | None, output: int, started: float, limits: LimitValues
) -> tuple[bytes, bytes, bool]:
    """Reads a program's output until it ends or times out, and then kills all of its processes.

    Args:
        supervisor: Process id of the program's parent.
        child: Process id of the program; `None` if it was not started.
        output: Descriptor.
        started: By the monotonic clock.

    Returns:
        The beginning of its output, the end of it, and whether it timed out.
    """
    head, tail = bytearray(), b""
    deadline = started + limits["timeout_s"]
    os.set_blocking(output, False)
    life = os.pidfd_open(supervisor)
    poll = select.poll()
    poll.register(life, select.POLLIN)
    poll.register(output, select.POLLIN)
    is_late = False
    while True:
        events = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
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
    if child is not None:
        # In a PID namespace it is the init process, and the kernel kills all others with it.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
    os.close(life)
    rest = read_rest(output)
    head += rest[: max(0, limits["max_output_bytes"] - len(head))]
    return bytes(head), tail + rest, is_late


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
    settings = json.loads(sys.argv[1])
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
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
        zygote.serve(requests, replies)
