"""The lean process: it reads a JSON object a line, runs that program in a child, and answers with one JSON line."""

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
from typing import Any, NoReturn

from . import KEPT_END, PROOF, SECRET_BYTES
from .programs import SCRATCH, become_program
from .walls import (
    CALLS,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    become_nobody,
    call,
    enter_namespaces,
    inherit_orphans,
)

BEHIND_BUBBLEWRAP = "import sys; sys.path.insert(0, '/sandbox'); from inside.programs import enter; enter()"


class Zygote:
    """Runs programs one after another.

    Args:
        rung: What isolates them: "namespaces", "bubblewrap", "container" or "none".
        shown: Files and folders that they may read.
        bubblewrap: Path of the program of that name, for its rung.
    """

    def __init__(self, rung: str, shown: list[str], bubblewrap: str) -> None:
        self.rung = rung
        self.shown = shown
        self.bubblewrap = bubblewrap
        self.null = os.open("/dev/null", os.O_RDWR)
        if rung != "none" and platform.machine() not in CALLS:
            raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
        if rung == "namespaces":
            enter_namespaces(shown)
        if rung == "bubblewrap" and os.geteuid() == 0:
            become_nobody()
        if rung == "container":
            inherit_orphans()

    def serve(self, commands: Any, answers: Any) -> None:
        """Answers requests until there are no more.

        Args:
            commands: Where they are read.
            answers: Where answers are written.
        """
        for line in commands:
            answers.write(json.dumps(self.judge(json.loads(line))).encode() + b"\n")
            answers.flush()

    def judge(self, request: dict[str, Any]) -> dict[str, Any]:
        """Runs one program and sees it to its end.

        Args:
            request: As `become_program` takes it; `folder` is set here.

        Returns:
            `status`, `reason`, `seconds` and `output`; or `trouble`, if the sandbox is at fault.
        """
        secret = os.urandom(SECRET_BYTES).hex()[:SECRET_BYTES].encode()
        if request["kind"] == "commands":
            request["files"] = [[name, text.replace(PROOF, secret.decode())] for name, text in request["files"]]
        has_own_files = self.rung in ("namespaces", "bubblewrap")
        request["folder"] = SCRATCH if has_own_files else tempfile.mkdtemp(dir=SCRATCH, prefix="program-")
        try:
            return self.run(request, secret)
        finally:
            if not has_own_files:
                clear_away(request["folder"], is_alone=self.rung == "container")

    def run(self, request: dict[str, Any], secret: bytes) -> dict[str, Any]:
        """Forks, watches and reads the verdict.

        Args:
            request: With its folder.
            secret: What only a program that reached its end can say.

        Returns:
            As `judge`.
        """
        ends = {name: os.pipe() for name in ("question", "answer", "output", "trouble", "child")}
        os.write(ends["question"][1], secret)
        started = time.monotonic()
        keeper = os.fork()
        if keeper == 0:
            self.keep(request, ends)
        for name in ("answer", "output", "trouble", "child"):
            os.close(ends[name][1])
        os.close(ends["question"][0])
        said = os.read(ends["child"][0], 16)
        child = int(said) if said else None
        kept, end, is_late = watch(keeper, child, ends["output"][0], started, request["limits"])
        status = os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1])
        for name in ("answer", "trouble"):
            os.set_blocking(ends[name][0], False)
        answer, trouble = read_rest(ends["answer"][0]), read_rest(ends["trouble"][0])
        for name in ("answer", "output", "trouble", "child"):
            os.close(ends[name][0])
        os.close(ends["question"][1])
        result = {"seconds": time.monotonic() - started, "output": kept.decode("utf-8", "replace")}
        if trouble:
            return {**result, "trouble": trouble.decode("utf-8", "replace").strip()}
        if is_late:
            return {**result, "status": "timed out", "reason": "timeout"}
        if answer.startswith(b"!"):
            return {**result, "status": "failed", "reason": answer[1:].decode("utf-8", "replace")}
        is_proven = answer == secret or (
            request["kind"] == "commands" and (not request["is_proven"] or secret in end.replace(b"\0", b""))
        )
        if is_proven and status == 0:
            return {**result, "status": "passed", "reason": ""}
        if status > 128:  # bubblewrap tells of a signal so
            status = 128 - status
        reason = signal.Signals(-status).name if status < 0 else f"exit {status} before the end"
        return {**result, "status": "failed", "reason": reason}

    def keep(self, request: dict[str, Any], ends: dict[str, tuple[int, int]]) -> NoReturn:
        """Stands between the zygote and the program: with process ids of its own, the first child is their root.

        Args:
            request: As `become_program` takes it.
            ends: Pipes by name.
        """
        try:
            if self.rung == "namespaces":
                call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC)
            child = os.fork()
        except OSError as error:
            os.write(ends["trouble"][1], str(error).encode())
            os._exit(1)
        if child == 0:
            pipes = {name: ends[name][1] for name in ("answer", "output", "trouble")}
            pipes |= {"question": ends["question"][0], "null": self.null}
            if self.rung == "bubblewrap":
                self.enter_bubblewrap(request, pipes)
            become_program(request, pipes, rung=self.rung)
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

    def enter_bubblewrap(self, request: dict[str, Any], pipes: dict[str, int]) -> NoReturn:
        """Lets bubblewrap build the walls and start an interpreter within.

        Args:
            request: What it finds there.
            pipes: Descriptors by name.
        """
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
        interpreter = [sys.executable, "-I", "-S", "-B", "-c", BEHIND_BUBBLEWRAP, json.dumps({"pipes": pipes})]
        try:
            os.execv(command[0], [*command, "--remount-ro", "/", "--", *interpreter])  # noqa: S606 - the isolation itself
        except OSError as error:
            os.write(pipes["trouble"], str(error).encode())
        os._exit(1)


def list_bubblewrap_options(shown: list[str], max_file_bytes: int) -> list[str]:
    """Says what bubblewrap shall show and hide.

    Args:
        shown: Files and folders that programs may read.
        max_file_bytes: Of the file system for their own files.

    Returns:
        Options.
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


def clear_away(folder: str, *, is_alone: bool) -> None:
    """Takes away what a program left, where its files do not vanish with it.

    Args:
        folder: It worked there.
        is_alone: Whether every process here but this one is a program's.
    """
    if is_alone:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:  # the killed are there until they are waited for
                os.waitpid(-1, 0)
        for name in os.listdir(SCRATCH):
            path = os.path.join(SCRATCH, name)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    shutil.rmtree(folder, ignore_errors=True)


def watch(
    keeper: int, child: int | None, output: int, started: float, limits: dict[str, Any]
) -> tuple[bytes, bytes, bool]:
    """Reads what a program prints until it ends or its time is over; then kills all of it.

    Args:
        keeper: Process id of what waits for it.
        child: Its own, if it was born.
        output: Descriptor of what it prints.
        started: When, by the monotonic clock.
        limits: The values of `Limits`.

    Returns:
        The beginning of what it printed, its end, and whether its time was over.
    """
    kept, end = bytearray(), b""
    deadline = started + limits["timeout_s"]
    os.set_blocking(output, False)
    life = os.pidfd_open(keeper)
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
                kept += chunk[: max(0, limits["max_output_bytes"] - len(kept))]
                end = (end + chunk)[-KEPT_END:]
            else:
                poll.unregister(output)
        if life in events:
            break
        if time.monotonic() >= deadline:
            is_late = True
            break
    if child is not None:
        # Under namespaces this is the root of its processes, and the kernel ends all others with it.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
    os.close(life)
    rest = read_rest(output)
    kept += rest[: max(0, limits["max_output_bytes"] - len(kept))]
    return bytes(kept), end + rest, is_late


def read_rest(descriptor: int) -> bytes:
    """Reads what lies ready in a pipe that does not block.

    Args:
        descriptor: The pipe's.

    Returns:
        Up to 64 kB.
    """
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def main() -> None:
    """Makes the process lean and deaf, greets, and serves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    settings = json.loads(sys.argv[1])
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    zygote = None
    try:
        zygote = Zygote(settings["rung"], settings["shown"], settings["bubblewrap"])
        greeting: dict[str, Any] = {"ready": True, "python": platform.python_version()}
    except OSError as error:
        greeting = {"ready": False, "reason": str(error.strerror)}
    answers.write(json.dumps(greeting).encode() + b"\n")
    answers.flush()
    if zygote is not None:
        zygote.serve(commands, answers)
