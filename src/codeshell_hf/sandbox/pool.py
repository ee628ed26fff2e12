"""A few lean processes that run programs one after another, and the proof that they hold what they promise."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from ..errors import RunFailed, SettingsError
from .limits import Limits, Program, Verdict

logger = logging.getLogger(__name__)

Rung = Literal["auto", "namespaces", "none"]
RUNGS = ("auto", "namespaces", "none")
ZYGOTE = Path(__file__).with_name("zygote.py")


class Sandbox:
    """Runs programs, several at a time, each in a fresh child of a lean process.

    ```python
    with open_sandbox("auto") as sandbox:
        verdicts = sandbox.run([Program("def f(x): return x", "assert f(1) == 1")])
    ```

    Args:
        rung: "namespaces", or "none" for limits alone.
        limits: What each program may use.
        workers: Programs at a time; by default as many as there are cores.
    """

    def __init__(self, rung: str, limits: Limits, workers: int | None = None) -> None:
        self.rung = rung
        self.limits = limits
        self.workers = workers or max(1, os.cpu_count() or 1)
        self._free: SimpleQueue[_Zygote] = SimpleQueue()
        self._all: list[_Zygote] = []
        self._lock = threading.Lock()
        for _ in range(self.workers):
            self._start()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, programs: Iterable[Program], *, on_progress: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        """Runs programs; those that are the same letter for letter run once.

        Args:
            programs: What to run.
            on_progress: Called with the number of programs just done.

        Returns:
            A verdict for each, in their order.

        Raises:
            RunFailed: If the sandbox itself breaks, twice in the same place.
        """
        given = list(programs)
        verdicts: dict[Program, Verdict] = {}
        counts: dict[Program, int] = {}
        for program in given:
            counts[program] = counts.get(program, 0) + 1

        def judge(program: Program) -> None:
            verdicts[program] = self._judge(program)
            on_progress(counts[program])

        with ThreadPoolExecutor(self.workers) as threads:
            for done in [threads.submit(judge, program) for program in counts]:
                done.result()
        return [verdicts[program] for program in given]

    def close(self) -> None:
        """Ends the processes; a second call does nothing."""
        with self._lock:
            zygotes, self._all = self._all, []
        for zygote in zygotes:
            zygote.close()

    def _start(self) -> None:
        zygote = _Zygote(self.rung)
        with self._lock:
            self._all.append(zygote)
        self._free.put(zygote)

    def _judge(self, program: Program) -> Verdict:
        trouble = ""
        for _ in range(2):
            zygote = self._free.get()
            try:
                answer = zygote.ask(program, self.limits)
            except (OSError, ValueError) as error:
                trouble = f"its process ended ({error})"
                zygote.close()
                self._start()
                continue
            self._free.put(zygote)
            if "trouble" not in answer:
                return Verdict(answer["status"], answer["reason"], round(answer["seconds"], 4), answer["output"])
            trouble = answer["trouble"]
        raise RunFailed(f"the sandbox failed twice on one program: {trouble}; what was finished is kept, run it again")


class _Zygote:
    """One lean process and the two pipes to it."""

    def __init__(self, rung: str) -> None:
        # Not the virtual environment's interpreter: its folder is not shown to programs, and they need none of it.
        interpreter = getattr(sys, "_base_executable", sys.executable)
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [interpreter, "-I", "-S", "-B", str(ZYGOTE), rung],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"HOME": "/tmp", "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},  # noqa: S108 - its own
        )
        greeting = self._read()
        if not greeting["ready"]:
            self.close()
            raise OSError(greeting["reason"])

    def ask(self, program: Program, limits: Limits) -> dict[str, Any]:
        request = {**asdict(program), "limits": asdict(limits), "folder": self._folder.name}
        if self._process.stdin is None:
            raise OSError("closed")
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _read(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise OSError("closed")
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"exit {self._process.wait()}")
        return dict(json.loads(line))


def open_sandbox(rung: Rung, limits: Limits | None = None, *, workers: int | None = None) -> Sandbox:
    """Opens a sandbox after a proof: it runs programs that try to get out.

    Args:
        rung: "auto" takes the best that this machine has; "none" isolates nothing and has to be written out.
        limits: What each program may use.
        workers: Programs at a time; by default as many as there are cores.

    Returns:
        The sandbox, which is closed by its caller.

    Raises:
        SettingsError: If this machine cannot isolate programs, or the rung leaks.
    """
    limits = limits or Limits()
    if rung not in RUNGS:
        raise SettingsError(f"sandbox is {rung!r}; use one of {', '.join(RUNGS)}")
    if rung == "none":
        logger.warning("sandbox: none. Programs run with your rights, with limits on time and memory alone")
        return Sandbox("none", limits, workers)
    try:
        sandbox = Sandbox("namespaces", limits, workers)
    except OSError as error:
        raise SettingsError(
            f"sandbox is {rung!r}, but this machine gives no namespaces to programs ({error}); run where user "
            "namespaces are allowed, or write sandbox: none to run programs with your own rights"
        ) from error
    leaks = probe(sandbox)
    if leaks:
        sandbox.close()
        raise SettingsError(
            f"sandbox is {rung!r}, but a program {leaks[0]} on this machine; run elsewhere, or write sandbox: none "
            "to run programs with your own rights"
        )
    return sandbox


def probe(sandbox: Sandbox) -> list[str]:
    """Tries the walls with programs that pass only where they stand.

    Args:
        sandbox: Any.

    Returns:
        What a program could do and must not; empty if all holds.
    """
    with contextlib.ExitStack() as opened:
        secrets = [path for folder in (tempfile.gettempdir(), Path.home()) if (path := _plant(Path(folder), opened))]
        port = opened.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        trials = {
            "cannot run": Program("", "assert 1 + 1 == 2"),
            **{f"reads {path.parent}": Program(_must_fail(f"open({str(path)!r}).read()")) for path in secrets},
            "reaches a port": Program(
                _must_fail(f"__import__('socket').create_connection(('127.0.0.1', {port}), timeout=1)")
            ),
            "sees another process": Program("import os", f"assert os.getpid() == 1 and not os.path.exists({_OWN!r})"),
            "writes to the system": Program(_must_fail("open('/usr/planted', 'w')")),
        }
        verdicts = sandbox.run(trials.values())
    return [name for name, verdict in zip(trials, verdicts, strict=True) if not verdict.passed]


_OWN = "/proc/1/environ"


def _plant(folder: Path, opened: contextlib.ExitStack) -> Path | None:
    try:
        secret = opened.enter_context(
            tempfile.NamedTemporaryFile(suffix=".planted", dir=folder)  # noqa: SIM115 - the stack closes it
        )
    except OSError:
        return None  # a home that nobody may write to, or none at all
    Path(secret.name).chmod(0o644)
    return Path(secret.name)


def _must_fail(expression: str) -> str:
    return f"try:\n    {expression}\nexcept OSError:\n    pass\nelse:\n    raise SystemExit('leak')\n"
