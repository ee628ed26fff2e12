"""Worker processes on this machine, which all steps share: each is started once, and keeps what it has loaded."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import IO, TypeVar, cast

from ..errors import CodeShellError, RunFailed

_MODULE = "codeshell_hf.curate.worker_pool"
# Modules come from where the parent's do.
_START = f"import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); from {_MODULE} import serve; serve()"
_CLOSE_S = 5.0
Task = TypeVar("Task")
Shared = TypeVar("Shared")


def call(function: Callable[[Task, Shared], object], task: str, shared: str) -> str:
    """Calls a function with arguments as JSON, and returns its result, or its error, as JSON."""
    try:
        return json.dumps({"result": function(json.loads(task), json.loads(shared))})
    except CodeShellError as error:
        return json.dumps({"error": str(error), "exit_code": error.exit_code})
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        advice = "finished parts are kept: fix this and run the same command again"
        return json.dumps(
            {
                "error": f"{error.filename or 'a part'} cannot be read or written ({reason}); {advice}",
                "exit_code": 1,
            }
        )
    except Exception as error:  # raised again in the main process
        return json.dumps(
            {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(), "exit_code": 1}
        )


def serve() -> None:
    """Answers the parent's tasks, one a line, until it closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    # What libraries print goes to the errors, so that answers have a pipe of their own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in iter(sys.stdin.readline, ""):
        module, name, task, shared = json.loads(line)
        answers.write(call(getattr(import_module(module), name), task, shared) + "\n")
        answers.flush()


class WorkerProcess:
    """A process that calls functions."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii"
        )
        self._tasks, self._answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        self._send(sys.path)

    def _send(self, message: object) -> None:
        self._tasks.write(json.dumps(message) + "\n")
        self._tasks.flush()

    def ask(self, function: Callable[[Task, Shared], object], task: str, shared: str) -> str:
        """Has the process call a function.

        Raises:
            RunFailed: If the process ends instead.
        """
        answer = ""
        try:
            self._send([function.__module__, function.__qualname__, task, shared])
            answer = self._answers.readline()
        except (OSError, ValueError):  # the pipe is closed
            pass
        if not answer.endswith("\n"):
            raise RunFailed(f"a worker process died ({self._explain_end()}); run the same command again")
        return answer

    def _explain_end(self) -> str:
        try:
            code = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        killed = " for want of memory, perhaps" if code == -9 else ""
        return f"exit status {code}" if code >= 0 else f"signal {-code}{killed}"

    def end(self) -> None:
        """Ends the process, also in the middle of a task."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._tasks, self._answers):
            with contextlib.suppress(OSError):  # unsent bytes
                pipe.close()


class WorkerPool:
    """Processes that call functions, each started when it is first needed; as a context, it ends them."""

    def __init__(self) -> None:
        self._processes: list[WorkerProcess] = []
        self._place = ""

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self, function: Callable[[Task, Shared], object], tasks: Sequence[str], shared: str, *, workers: int
    ) -> Iterator[str]:
        """Calls a function of a module's top level on every task, and yields the answers of `call` as they complete.

        If it is left before the end, the processes are ended, too.

        Raises:
            RunFailed: If a process dies.
        """
        if self._place != str(Path.cwd()):  # relative paths are the parent's
            self.close()
            self._place = str(Path.cwd())
        self._processes += [WorkerProcess() for _ in range(workers - len(self._processes))]
        free: LifoQueue[WorkerProcess] = LifoQueue()
        for process in self._processes[:workers]:
            free.put(process)

        def ask(task: str) -> str:
            process = free.get()
            try:
                return process.ask(function, task, shared)
            finally:
                free.put(process)  # a dead one too, or the next task waits for ever

        threads = ThreadPoolExecutor(workers)
        is_done = False
        try:
            for done in as_completed([threads.submit(ask, task) for task in tasks]):
                yield done.result()
            is_done = True
        finally:
            if not is_done:
                self.close()
            threads.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Ends all processes."""
        for process in self._processes:
            process.end()
        self._processes = []


POOL = WorkerPool()
atexit.register(POOL.close)
