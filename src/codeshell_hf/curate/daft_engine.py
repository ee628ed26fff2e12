"""Runs the steps on this machine or on a Ray cluster; no other module depends on which."""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import daft
from daft import DataType, col

from ..errors import DataError, RunFailed
from ..processors import count_usable_cpus
from .worker_pool import POOL, call

# Daft's engine logs its steps through Python's logging.
logging.getLogger("tracing").setLevel(logging.WARNING)
_started: tuple[str, str | None] | None = None
Task = TypeVar("Task")
Shared = TypeVar("Shared")
Answer = TypeVar("Answer")


def start(runner: Literal["local", "ray"], address: str | None = None) -> None:
    """Selects where Daft runs, for the lifetime of the process.

    Args:
        address: The Ray head's address; `None` for the cluster that this process runs in, or a new local one.

    Raises:
        DataError: If the cluster cannot be reached or Ray is not installed.
    """
    global _started
    if _started == (runner, address):
        return
    if _started is not None:
        raise DataError(f"this process already uses {_started[0]}; start another process for {runner}")
    if runner == "ray":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray

            if address is not None:
                _try_connection(address)  # Ray itself waits for minutes, and exits the process
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except ImportError as error:
            raise DataError('runner is ray, which is not installed; pip install "codeshell-hf[ray]"') from error
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(f"no Ray cluster answers at {address or 'any address'} ({reason})") from error
        daft.set_runner_ray(noop_if_initialized=True)
    _started = (runner, address)


def _try_connection(address: str) -> None:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def count_cores() -> int:
    """Cores that the steps may use: the cluster's, or those of this process."""
    if _started is not None and _started[0] == "ray":
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return count_usable_cpus()


def map_tasks(
    function: Callable[[Task, Shared], Answer],
    tasks: Sequence[Task],
    shared: Shared,
    *,
    gpus: float = 0,
    max_workers: int | None = None,
    is_small: bool = False,
) -> Iterator[Answer]:
    """Calls a function on every task, one per core at a time, and yields answers as they complete.

    Tasks, shared arguments and answers are passed as JSON; bulk data through files that are complete or absent.

    Args:
        function: At the top level of a module, so that workers can import it.
        gpus: GPUs of the cluster that a task needs.
        is_small: Whether the work takes less time than starting processes.

    Raises:
        CodeShellError: If a task raised it, or a worker process died.
    """
    texts, plain = [json.dumps(task) for task in tasks], json.dumps(shared)
    is_local = _started is None or _started[0] == "local"
    workers = min(len(texts), max_workers or count_cores())
    if not texts:
        return
    answers: Iterable[str]
    if is_local and (workers <= 1 or is_small):
        answers = (call(function, text, plain) for text in texts)
    elif is_local:
        answers = POOL.run(function, texts, plain, workers=workers)
    else:
        answers = _run_on_ray(function, texts, plain, workers, gpus=gpus)
    for answer in answers:
        values = json.loads(answer)
        if "error" in values:
            kind = DataError if values["exit_code"] == DataError.exit_code else RunFailed
            raise kind(values["error"]) from (RuntimeError(values["trace"]) if "trace" in values else None)
        yield values["result"]


def _run_on_ray(
    function: Callable[[Task, Shared], object], texts: list[str], shared: str, workers: int, *, gpus: float
) -> Iterator[str]:
    worker = daft.cls(use_process=True, max_concurrency=workers, gpus=gpus)(_Worker)(function, shared)
    table = daft.from_pydict({"task": texts}).into_partitions(len(texts))
    try:
        for row in table.select(worker.run(col("task")).alias("answer")).iter_rows():
            yield row["answer"]
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunFailed(f"a worker process died ({reason}); run the same command again") from error


class _Worker:
    def __init__(self, function: Callable[[object, object], object], shared: str) -> None:
        self._function = function
        self._shared = shared

    @daft.method.batch(return_dtype=DataType.string(), batch_size=1)  # type: ignore[untyped-decorator, unused-ignore]
    def run(self, tasks: daft.Series) -> list[str]:
        return [call(self._function, task, self._shared) for task in tasks.to_pylist()]
