"""A pool of worker processes, each of which runs one program after another."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import cast

from ..errors import RunFailed
from ..operating_system import IS_LINUX
from ..processors import count_usable_cpus
from .inside import PROOF, SECRET_BYTES
from .inside.messages import Handshake, LimitValues, WorkerReply, WorkerRequest, frame, judge
from .limits import AnyProgram, Backend, Limits, Status, Verdict

INSIDE = Path(__file__).with_name("inside")
# Commands are found by PATH; Windows needs the others to start a program.
INHERITED = ("PATH", "PATHEXT", "COMSPEC", "SYSTEMROOT", "SYSTEMDRIVE")


@dataclass(frozen=True)
class Start:
    """How a worker process is started.

    Args:
        backend: "namespaces", "bubblewrap", "container" or "none".
        command: The program and its arguments, to which the other settings are added as JSON.
        shown: Files and folders that programs may read.
        bubblewrap: Path of bwrap, for its backend.
    """

    backend: Backend
    command: tuple[str, ...]
    shown: tuple[str, ...] = ()
    bubblewrap: str = ""


class Sandbox:
    """Runs programs concurrently, each in a new child of a worker process.

    ```python
    with open_sandbox("auto") as sandbox:
        verdicts = sandbox.run([Program("def f(x): return x", "assert f(1) == 1")])
    ```

    Args:
        start: How its processes are started.
        limits: Of programs that set none.
        workers: Programs at a time; by default one per usable processor.
    """

    def __init__(self, start: Start, limits: Limits, workers: int | None = None) -> None:
        self.backend = start.backend
        self.start = start
        self.limits = limits
        self.workers = workers or count_usable_cpus()
        self._free: SimpleQueue[_ZygoteProcess] = SimpleQueue()
        self._all: list[_ZygoteProcess] = []
        self._lock = threading.Lock()
        for _ in range(self.workers):
            self._start()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def python(self) -> str:
        """The version of the interpreter that runs programs."""
        return self._all[0].python

    def run(
        self,
        programs: Iterable[AnyProgram],
        *,
        on_progress: Callable[[int], None] = lambda done: None,
        repeats_timeouts: bool = False,
    ) -> list[Verdict]:
        """Runs programs; identical ones run once.

        Args:
            programs: To run.
            repeats_timeouts: Whether a program that timed out runs again, alone, at the end.
            on_progress: Called with the number of programs just done.

        Returns:
            A verdict for each, in order.

        Raises:
            RunFailed: If the sandbox itself fails twice on a program.
        """
        ordered = list(programs)
        verdicts: dict[AnyProgram, Verdict] = {}
        counts: dict[AnyProgram, int] = {}
        for program in ordered:
            counts[program] = counts.get(program, 0) + 1

        def judge(program: AnyProgram) -> None:
            verdicts[program] = self._judge(program)
            on_progress(counts[program])

        with ThreadPoolExecutor(self.workers) as threads:
            for done in [threads.submit(judge, program) for program in counts]:
                done.result()
        if repeats_timeouts:
            for program in [program for program, verdict in verdicts.items() if verdict.status == "timed out"]:
                verdicts[program] = self._judge(program)
        return [verdicts[program] for program in ordered]

    def close(self) -> None:
        """Stops the processes; a second call does nothing."""
        with self._lock:
            zygotes, self._all = self._all, []
        for zygote in zygotes:
            zygote.close()

    def _start(self) -> None:
        zygote = _ZygoteProcess(self.start)
        with self._lock:
            self._all.append(zygote)
        self._free.put(zygote)

    def _judge(self, program: AnyProgram) -> Verdict:
        trouble = ""
        for _ in range(2):
            zygote = self._free.get()
            try:
                request = make_request(program, program.limits or self.limits)
                reply = zygote.ask(request)
            except (OSError, ValueError) as error:
                trouble = f"its worker process ended ({error})"
                zygote.close()
                self._start()
                continue
            self._free.put(zygote)
            if "trouble" not in reply:
                status, reason = judge(request, reply)
                end = reply["tail"].encode("latin-1").decode("utf-8", "replace")
                return Verdict(cast(Status, status), reason, round(reply["seconds"], 4), reply["output"], end)
            trouble = reply["trouble"]
        raise RunFailed(f"the sandbox failed twice on one program: {trouble}; finished programs are kept: run again")


def make_request(program: AnyProgram, limits: Limits) -> WorkerRequest:
    """The request to a worker process, with a new secret."""
    secret = os.urandom(SECRET_BYTES).hex()[:SECRET_BYTES]
    request: WorkerRequest = {**program.request(), "limits": cast(LimitValues, asdict(limits)), "secret": secret}
    if "files" in request:
        request["files"] = [[name, text.replace(PROOF, secret)] for name, text in request["files"]]
    return request


class _ZygoteProcess:
    """One worker process and the two pipes to it."""

    def __init__(self, start: Start) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        settings = {"backend": start.backend, "shown": start.shown, "bubblewrap": start.bubblewrap}
        if start.backend == "bubblewrap":
            # It runs as an unprivileged user, who may have no access to this package's folder.
            shutil.copytree(INSIDE, Path(self._folder.name) / "inside", copy_function=shutil.copyfile)
            for path in (Path(self._folder.name), *Path(self._folder.name).rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
        environment = {"HOME": "/tmp", "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}  # noqa: S108 - its own
        if start.backend == "container":  # the engine is trusted, and needs our environment
            environment = dict(os.environ)
        elif start.backend == "none":
            environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self._folder.name)
            if not IS_LINUX:
                environment |= {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [*start.command, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env=environment,
        )
        try:
            handshake = cast(Handshake, self._read())
        except (OSError, ValueError) as error:
            self.close()
            raise OSError(f"its process did not start: {error}") from error
        if not handshake["ready"]:
            self.close()
            raise OSError(handshake["reason"])
        self.python = handshake["python"]

    def ask(self, request: WorkerRequest) -> WorkerReply:
        if self._process.stdin is None:
            raise OSError("closed")
        self._process.stdin.write(frame(request))
        self._process.stdin.flush()
        return cast(WorkerReply, self._read())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _read(self) -> object:
        if self._process.stdout is None:
            raise OSError("closed")
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"exit {self._process.wait()}")
        message: object = json.loads(line)
        return message
