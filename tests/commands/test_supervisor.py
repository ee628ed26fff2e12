"""Signals between a scheduler, a launcher and its ranks, with real processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from codeshell_hf.commands import supervisor
from codeshell_hf.commands.supervisor import main, supervise


def test_a_launcher_is_supervised(tmp_path: Path) -> None:
    """A stand-in of the agent, which starts two ranks and would die of a signal; the ranks take a second to save."""
    rank = (
        "import os, pathlib, signal, sys, time\n"
        "saved = []\n"
        "signal.signal(signal.SIGTERM, lambda *more: saved.append(1))\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).touch()\n"
        "while not saved: time.sleep(0.05)\n"
        "time.sleep(1)\n"
        "pathlib.Path(os.environ['CODESHELL_INTERRUPTED_MARKER']).touch()\n"
    )
    agent = (
        "import os, subprocess, sys\n"
        f"ranks = [subprocess.Popen([sys.executable, '-c', {rank!r}], env={{**os.environ, 'RANK': str(n)}},"
        " start_new_session=True) for n in range(2)]\n"
        "sys.exit(max(rank.wait() for rank in ranks))\n"
    )
    script = (
        "import sys\nfrom codeshell_hf.commands.supervisor import supervise\n"
        f"sys.exit(supervise([sys.executable, '-c', {agent!r}], grace_s=float(sys.argv[1])))\n"
    )

    process = subprocess.Popen([sys.executable, "-c", script, "30"])
    while len(list(tmp_path.glob("[01]"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 75

    for path in tmp_path.glob("[01]"):
        path.unlink()
    stubborn = subprocess.Popen([sys.executable, "-c", script.replace("while not saved", "while True"), "1"])
    while len(list(tmp_path.glob("[01]"))) < 2:
        time.sleep(0.05)
    agents = psutil.Process(stubborn.pid).children()
    ranks = [child.pid for agent in agents for child in agent.children()]
    assert len(ranks) == 2
    stubborn.send_signal(signal.SIGTERM)
    assert stubborn.wait(60) == 128 + signal.SIGKILL
    gone = time.monotonic() + 20
    while any(psutil.pid_exists(one) and psutil.Process(one).status() != "zombie" for one in ranks):
        assert time.monotonic() < gone
        time.sleep(0.05)


def test_a_launchers_exit_status_is_passed_on() -> None:
    assert supervise([sys.executable, "-c", "import sys; sys.exit(3)"]) == 3
    assert supervise([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137
    assert supervise([sys.executable, "-c", "import sys; sys.exit(4)"], saves=False) == 4


def test_ranks_of_a_launcher_that_dies_are_killed_and_a_saved_run_that_fails_has_failed(tmp_path: Path) -> None:
    rank = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)"
    agent = (
        "import os, pathlib, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {rank!r}], start_new_session=True)\n"
        f"while not list(pathlib.Path({str(tmp_path)!r}).iterdir()): time.sleep(0.02)\n"
        "pathlib.Path(os.environ['CODESHELL_INTERRUPTED_MARKER']).touch()\n"
        "os._exit(3)\n"
    )

    assert supervise([sys.executable, "-c", agent]) == 3

    process = int(next(tmp_path.iterdir()).name)
    gone = time.monotonic() + 20
    while psutil.pid_exists(process) and psutil.Process(process).status() != "zombie":
        assert time.monotonic() < gone
        time.sleep(0.05)


def test_a_launcher_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    agent = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)"
    script = (
        "import sys\nfrom codeshell_hf.commands.supervisor import supervise\n"
        f"supervise([sys.executable, '-c', {agent!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(tmp_path.iterdir()):
        time.sleep(0.05)
    launcher = int(next(tmp_path.iterdir()).name)

    process.kill()
    process.wait()

    gone = time.monotonic() + 20
    while psutil.pid_exists(launcher) and psutil.Process(launcher).status() != "zombie":
        assert time.monotonic() < gone
        time.sleep(0.05)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    supervise([sys.executable, "-c", ""])

    assert signal.getsignal(signal.SIGTERM) is before


def test_it_needs_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["supervisor"])

    assert main() == 2
    assert "usage: " in capsys.readouterr().err


def test_without_proc_the_launcher_gets_the_signal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on macOS, where ranks cannot be found."""
    monkeypatch.setattr(supervisor, "PROCESSES", tmp_path / "missing")
    program = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *more: sys.exit(75))\n"
        f"pathlib.Path({str(tmp_path)!r}, 'ready').touch()\n"
        "time.sleep(60)\n"
    )
    killer = (
        "import os, pathlib, signal, time\n"
        f"while not pathlib.Path({str(tmp_path)!r}, 'ready').exists(): time.sleep(0.02)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
    )
    with subprocess.Popen([sys.executable, "-c", killer]):
        assert supervise([sys.executable, "-c", program]) == 75
    assert supervisor.list_agent_options() == []
