"""Workers start once, without heavy libraries, and what happens in them reaches the parent."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from codeshell_hf.curate.worker_pool import WorkerPool, call
from codeshell_hf.errors import DataError, RunFailed


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool() as workers:
        yield workers


def add(task: list[int], shared: int) -> int:
    return sum(task) + shared


def tell_process(task: float, shared: None) -> int:
    print("a library prints")
    time.sleep(task)
    return os.getpid()


def tell_modules(task: str, shared: None) -> list[str]:
    import_module(task)
    return [name for name in ("torch", "transformers", "openai", "huggingface_hub") if name in sys.modules]


def die(task: int, shared: None) -> None:
    os.kill(os.getpid(), task)


def tell_folder(task: int, shared: None) -> str:
    return str(Path.cwd())


def fail(task: str, shared: None) -> None:
    if task == "data":
        raise DataError("no file was found; name one")
    Path("/none/there").read_text()


def ask(pool: WorkerPool, function: object, tasks: list[object], shared: object = None, workers: int = 1) -> list:
    texts = [json.dumps(task) for task in tasks]
    return [json.loads(answer) for answer in pool.run(function, texts, json.dumps(shared), workers=workers)]


def test_all_steps_use_the_same_processes(pool: WorkerPool) -> None:
    sums = [answer["result"] for answer in ask(pool, add, [[1, 2], [3], []], 10, workers=2)]
    first = {answer["result"] for answer in ask(pool, tell_process, [0.2] * 4, workers=2)}
    second = {answer["result"] for answer in ask(pool, tell_process, [0.2] * 4, workers=2)}

    assert sorted(sums) == [10, 13, 13]
    assert len(first) == 2
    assert os.getpid() not in first
    assert second == first


@pytest.mark.parametrize("module", ["measured_parts", "inspection", "writing", "existing"])
def test_no_step_imports_a_library_of_models(pool: WorkerPool, module: str) -> None:
    [answer] = ask(pool, tell_modules, [f"codeshell_hf.curate.{module}"])

    assert answer["result"] == []


def test_the_death_of_a_worker_is_one_line_and_the_next_run_has_new_ones(pool: WorkerPool) -> None:
    with pytest.raises(RunFailed, match=r"a worker process died \(signal 9.*\); run the same command again"):
        ask(pool, die, [signal.SIGKILL])

    assert [answer["result"] for answer in ask(pool, add, [[1]], 0)] == [1]


def test_the_death_of_one_of_several_workers_ends_the_run(pool: WorkerPool) -> None:
    with pytest.raises(RunFailed, match=r"a worker process died"):
        ask(pool, die, [signal.SIGKILL] * 8, workers=3)

    assert [answer["result"] for answer in ask(pool, add, [[1], [2]], 0, workers=2)] in ([1, 2], [2, 1])


def test_errors_are_those_of_the_task(pool: WorkerPool) -> None:
    by_data, by_file = ask(pool, fail, ["data", "file"])

    assert by_data == {"error": "no file was found; name one", "exit_code": DataError.exit_code}
    assert by_file["error"].startswith("/none/there cannot be read or written (No such file or directory)")
    assert json.loads(call(add, '["a"]', "1"))["error"].startswith("TypeError")


def test_workers_are_where_their_parent_is(pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [before] = ask(pool, tell_folder, [0])
    monkeypatch.chdir(tmp_path)
    [after] = ask(pool, tell_folder, [0])

    assert before["result"] != after["result"] == str(tmp_path)


def test_who_stops_listening_ends_the_workers(pool: WorkerPool) -> None:
    answers = pool.run(tell_process, ["0", "600"], "null", workers=2)
    pid = json.loads(next(answers))["result"]
    answers.close()  # type: ignore[attr-defined]

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
