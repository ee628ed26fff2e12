"""Runs of one output: the second waits for the first, is refused, or takes over from one that Slurm has replaced.

Holders are real processes. A stopped one (SIGSTOP) keeps its lock and gives no sign of life, like a lost node whose
lock the file server keeps.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.stages import output_lock
from codeshell_hf.stages.output_lock import lock_output, read_holder

HOLDER = """
import os, platform, sys, time
from pathlib import Path
from codeshell_hf.stages import output_lock
output_lock.TOUCHED_EVERY_S = 0.05
platform.node = lambda: "node7"
with output_lock.lock_output(Path(sys.argv[1])):
    if sys.argv[2:] == ["forks"] and os.fork() == 0:
        time.sleep(60)
    print("held", flush=True)
    sys.stdin.read()
"""
Holders = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Holders]:
    """Starts processes that hold a lock until their input ends, and lets this process wait for a second."""
    monkeypatch.setenv("CODESHELL_LOCK_S", "1")
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(output_lock, "POLLED_EVERY_S", 0.05)
    monkeypatch.setattr(output_lock, "TOUCHED_EVERY_S", 0.1)
    monkeypatch.setattr(output_lock, "SILENT_AFTER_S", 0.5)
    started = []

    def start(output: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(output), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("held")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_second_run_is_refused_until_the_first_ends_or_is_killed(tmp_path: Path, hold: Holders) -> None:
    output = tmp_path / "runs" / "pretrain"
    for ends in (True, False):
        holder = hold(output)

        with pytest.raises(SettingsError) as refused:
            lock_output(output).__enter__()

        assert str(refused.value).startswith(f"{output} is being written by process {holder.pid} on node7 since 20")
        assert f"which holds {output}.lock; waited 1 s (CODESHELL_LOCK_S); wait until it ends, or set output to" in str(
            refused.value
        )
        if ends:
            holder.communicate()
        else:
            holder.kill()
        holder.wait(60)
        with lock_output(output):
            pass
        assert list(output.parent.iterdir()) == []


def test_without_time_to_wait_it_is_refused_at_once(
    tmp_path: Path, hold: Holders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CODESHELL_LOCK_S", "0")
    monkeypatch.setattr(output_lock, "POLLED_EVERY_S", 1e9)
    hold(tmp_path / "sft")

    with pytest.raises(SettingsError, match=r"sft\.lock; wait until it ends"):
        lock_output(tmp_path / "sft").__enter__()

    assert caplog.text == ""


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", ""])
def test_a_time_to_wait_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CODESHELL_LOCK_S", text)

    with pytest.raises(SettingsError, match=f"CODESHELL_LOCK_S is '{text}' and must be a number of seconds"):
        lock_output(tmp_path / "sft").__enter__()


def test_a_run_waits_with_one_line_for_one_that_is_ending(
    tmp_path: Path, hold: Holders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CODESHELL_LOCK_S", "60")
    holder = hold(tmp_path / "sft")
    ending = threading.Timer(0.5, holder.communicate)
    ending.start()

    with lock_output(tmp_path / "sft"):
        own = read_holder(tmp_path / "sft.lock.json")[0]
        assert own is not None
        assert own.process == os.getpid()

    ending.join()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'sft'} is locked by process {holder.pid} on node7; waits up to 60 s for it to end"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
def test_a_lock_of_a_lost_run_is_explained_and_the_advice_works(tmp_path: Path, hold: Holders) -> None:
    output = tmp_path / "pretrain"
    lost = hold(output)
    lost.send_signal(signal.SIGSTOP)

    with pytest.raises(SettingsError) as refused:
        lock_output(output).__enter__()

    assert str(refused.value) == (
        f"{output} is locked by process {lost.pid} on node7, which gave no sign of life; waited 1 s "
        f"(CODESHELL_LOCK_S); if `ps -p {lost.pid}` on node7 still shows it, end it; if not, or if that machine is "
        f"lost, remove {output}.lock and run again"
    )
    (tmp_path / "pretrain.lock").unlink()
    with lock_output(output):
        lost.send_signal(signal.SIGCONT)  # the machine was only cut off: what is left of it must not write any more
        assert lost.wait(60) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["pretrain.lock", "pretrain.lock.json"]
    assert lost.stderr is not None
    assert f"was taken over by process {os.getpid()} on " in lost.stderr.read()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_worker_that_outlives_a_killed_run_keeps_no_lock(tmp_path: Path, hold: Holders) -> None:
    killed = hold(tmp_path / "sft", "forks")
    [worker] = psutil.Process(killed.pid).children()
    killed.kill()
    killed.wait(60)

    with lock_output(tmp_path / "sft"):
        assert worker.is_running()

    worker.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
@pytest.mark.parametrize(
    ("first", "later", "stops", "is_taken"),
    [
        (("7", ""), ("7", "1"), True, True),
        (("7", "1"), ("7", "2"), True, True),
        (("7", ""), ("7", "1"), False, False),  # it lives
        (("7", "1"), ("7", "1"), True, False),  # two tasks of one job
        (("7", ""), ("8", "1"), True, False),
        (("", ""), ("", "1"), True, False),
    ],
)
def test_a_requeued_job_takes_over_from_its_lost_run_alone(
    tmp_path: Path, hold: Holders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    first: tuple[str, str], later: tuple[str, str], stops: bool, is_taken: bool,
) -> None:  # fmt: skip
    output, names = tmp_path / "pretrain", ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")
    lost = hold(output, **dict(zip(names, first, strict=True)))
    if stops:
        lost.send_signal(signal.SIGSTOP)
    for name, value in zip(names, later, strict=True):
        monkeypatch.setenv(name, value)

    if not is_taken:
        with pytest.raises(SettingsError, match=f"by process {lost.pid} on node7"):
            lock_output(output).__enter__()
        return
    with lock_output(output):
        assert (
            f"takes {output} over from process {lost.pid} on node7, the run before Slurm requeued job 7" in caplog.text
        )
        lost.send_signal(signal.SIGCONT)
        assert lost.wait(60) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
def test_a_record_that_is_none_names_nobody(tmp_path: Path, hold: Holders) -> None:
    hold(tmp_path / "sft").send_signal(signal.SIGSTOP)
    (tmp_path / "sft.lock.json").write_text("{}")

    with pytest.raises(SettingsError, match="sft is being written by another run, which holds"):
        lock_output(tmp_path / "sft").__enter__()


@pytest.mark.parametrize("change", [{"host": 3}, {"host": "a\x1b[2J"}, {"process": "1"}, {"job": None}])
def test_a_record_of_another_shape_is_not_read(tmp_path: Path, change: dict[str, object]) -> None:
    sound = {"host": "node7", "process": 1, "since": "", "job": "", "restarts": 0, "token": "a"}
    (tmp_path / "record").write_text(json.dumps(sound))
    assert read_holder(tmp_path / "record")[0] is not None

    for text in (json.dumps(sound | change), "", "null", "[" * 4000, json.dumps(sound)[:-1]):
        (tmp_path / "record").write_text(text)
        assert read_holder(tmp_path / "record") == (None, 0)


def test_outputs_side_by_side_have_locks_of_their_own(tmp_path: Path) -> None:
    with lock_output(tmp_path / "sft"), lock_output(tmp_path / "sft-code"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "sft-code.lock", "sft-code.lock.json", "sft.lock", "sft.lock.json",
        ]  # fmt: skip


def test_a_failed_run_frees_its_output(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock_output(tmp_path / "sft"):
        raise KeyError

    with lock_output(tmp_path / "sft"):
        pass


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()

    with lock_output(tmp_path / "file" / "sft"):
        pass

    assert "sft.lock cannot be locked" in caplog.text
    assert output_lock.logger.name in {record.name for record in caplog.records}


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_file_system_without_locks_is_used_with_a_warning_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As Lustre without `-o flock`; a lock that is a mere file would refuse all runs after one that was killed."""
    import fcntl

    def fail(*given: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", fail)
    killed = lock_output(tmp_path / "sft")
    killed.__enter__()

    with lock_output(tmp_path / "sft"):
        pass

    assert caplog.text.count("sft.lock cannot be locked ([Errno 38] Function not implemented)") == 2
