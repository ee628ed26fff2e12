"""Runs a launcher of ranks so that a stop signal saves the run, however long a step and a save take.

python -m codeshell_hf.commands.supervisor COMMAND ...    the command is torchrun's or accelerate's

torch's agent answers SIGTERM by killing its workers after 30 seconds, and takes their exit code 75 for a failure, upon
which it starts them again. So signals end here: the agent ignores them, and each rank gets SIGTERM until it has ended.
A rank that was interrupted with everything saved writes a marker and exits with 0, and this process exits with 75. The
marker's path, in their environment, is also how ranks are found.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from ..errors import Interrupted
from ..operating_system import list_stop_signals, make_parent_death_signal

GRACE = "CODESHELL_GRACE_S"  # environment variable: seconds for a step and a save, after which ranks are killed
DEFAULT_GRACE_S = 600.0
ASKED_EVERY_S = 1.0
PROCESSES = Path("/proc")


def list_agent_options() -> list[str]:
    """Options of torch's agent, so that it leaves signals to us; none where its ranks cannot be found."""
    return ["--signals-to-handle", "SIGQUIT"] if PROCESSES.is_dir() else []


def supervise(command: Sequence[str], *, saves: bool = True, grace_s: float | None = None) -> int:
    """Runs a launcher, passes stop signals on to its ranks, and leaves none of them behind.

    Args:
        saves: Whether the ranks save on a signal. If not, or without /proc, the launcher gets the signal.
        grace_s: Seconds from the first signal until ranks are killed; `None` for `$CODESHELL_GRACE_S`, else 600. A
            second Ctrl-C kills them at once.

    Returns:
        The launcher's exit status, or 75 if the ranks were interrupted with everything saved.
    """
    stop = _Stop(float(os.environ.get(GRACE, DEFAULT_GRACE_S)) if grace_s is None else grace_s)
    numbers = [*list_stop_signals(), signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)
    signals_ranks = saves and PROCESSES.is_dir()
    die_with_parent = make_parent_death_signal(signal.SIGKILL)

    def isolate() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # a rank installs its own handlers
        die_with_parent()

    previous = {number: signal.signal(number, stop.request) for number in numbers}
    with TemporaryDirectory(prefix="codeshell-") as folder:
        marker = Path(folder, "interrupted")
        more = {Interrupted.marker_variable: str(marker)} if signals_ranks else {}
        try:
            launcher = subprocess.Popen(  # noqa: S603 - this interpreter and a launcher
                command,
                env={**os.environ, **more},
                start_new_session=signals_ranks,  # so that a terminal's Ctrl-C does not reach the agent
                preexec_fn=isolate if signals_ranks else None,  # noqa: PLW1509 - before any thread is started here
            )
            code = _wait(launcher, stop, marker if signals_ranks else None)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return Interrupted.exit_code if code == 0 and marker.exists() else code


class _Stop:
    """Whether a stop was requested, and until when ranks may take for it."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.deadline: float | None = None

    def request(self, number: int, _frame: FrameType | None) -> None:
        if self.deadline is None:
            self.deadline = time.monotonic() + self.grace_s
        elif number == signal.SIGINT:
            self.deadline = time.monotonic()


def _wait(launcher: "subprocess.Popen[bytes]", stop: _Stop, marker: Path | None) -> int:
    is_told = False
    while True:
        try:
            code = launcher.wait(ASKED_EVERY_S)
        except subprocess.TimeoutExpired:
            if stop.deadline is None:
                continue
            if not is_told:
                print(
                    f"stopping: ranks finish their step and save, for up to {stop.grace_s:.0f} s; Ctrl-C kills them",
                    file=sys.stderr,
                )
                is_told = True
            if time.monotonic() > stop.deadline:
                launcher.kill()
            elif marker is None:
                launcher.terminate()
            else:  # each time, since a rank that is still starting ignores signals
                _signal(find_ranks(launcher.pid, marker), signal.SIGTERM)
        else:
            if marker is not None:
                _signal(find_ranks(launcher.pid, marker), signal.SIGKILL)  # of a launcher that was killed
            return code if code >= 0 else 128 - code


def find_ranks(launcher: int, marker: Path) -> dict[int, str]:
    """The ranks of a launcher, process ids and starting times, also when the launcher has ended.

    They have the marker in their environment, and are children of the launcher or of no process that has it.
    """
    wanted = f"{Interrupted.marker_variable}={marker}".encode()
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    for path in PROCESSES.glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                parents[int(path.name)], started[int(path.name)] = int(fields[1]), fields[19]
        except OSError:  # it has ended, or is another user's
            continue
    return {
        process: started[process]
        for process, parent in parents.items()
        if process != launcher and (parent == launcher or parent not in parents)
    }


def _signal(ranks: Mapping[int, str], number: signal.Signals) -> None:
    """Signals ranks that still run; a process that got the number of an ended one is left alone."""
    for process, started in ranks.items():
        try:
            fields = (PROCESSES / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
            if fields.rpartition(")")[2].split()[19] == started:
                os.kill(process, number)
        except OSError:  # it has ended
            continue


def main(command: Sequence[str] | None = None) -> int:
    """Runs a command of the command line."""
    command = sys.argv[1:] if command is None else command
    if not command:
        print("usage: python -m codeshell_hf.commands.supervisor COMMAND ...", file=sys.stderr)
        return 2
    return supervise(command)


if __name__ == "__main__":
    sys.exit(main())
