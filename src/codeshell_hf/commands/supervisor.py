"""Runs a launcher of ranks so that a stop signal saves the run, however long a step and a save take.

python -m codeshell_hf.commands.supervisor COMMAND ...    the command is torchrun's or accelerate's

torch's agent answers SIGTERM by killing its workers after 30 seconds, and takes their exit code 75 for a failure, upon
which it starts them again. So signals end here: the agent ignores them, and each rank gets SIGTERM until it has ended.
A rank that was interrupted with everything saved writes a marker and exits with 0, and this process exits with 75.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from ..errors import Interrupted
from ..operating_system import list_stop_signals

GRACE = "CODESHELL_GRACE_S"  # environment variable: seconds for a step and a save, after which ranks are killed
DEFAULT_GRACE_S = 600.0
ASKED_EVERY_S = 1.0
PROCESSES = Path("/proc")


def list_agent_options() -> list[str]:
    """Options of torch's agent, so that it leaves signals to us; none where its ranks cannot be found."""
    return ["--signals-to-handle", "SIGQUIT"] if PROCESSES.is_dir() else []


def supervise(command: Sequence[str], *, grace_s: float | None = None) -> int:
    """Runs a launcher, passes stop signals on to its ranks, and leaves none of them behind.

    Without /proc, ranks cannot be found, and the launcher gets the signal.

    Args:
        grace_s: Seconds from the first signal until ranks are killed; `None` for `$CODESHELL_GRACE_S`, else 600. A
            second Ctrl-C kills them at once.

    Returns:
        The launcher's exit status, or 75 if the ranks were interrupted with everything saved.
    """
    stop = _Stop(float(os.environ.get(GRACE, DEFAULT_GRACE_S)) if grace_s is None else grace_s)
    numbers = [*list_stop_signals(), signal.SIGINT]
    with TemporaryDirectory(prefix="codeshell-") as folder:
        marker = Path(folder, "interrupted")
        # A child inherits which signals are ignored; ranks install their own handlers.
        first = signal.SIG_IGN if PROCESSES.is_dir() else signal.SIG_DFL
        previous = {number: signal.signal(number, first) for number in numbers}
        environment = {**os.environ, Interrupted.marker_variable: str(marker)}
        try:
            launcher = subprocess.Popen(command, env=environment)  # noqa: S603 - this interpreter and a launcher
            for number in numbers:
                signal.signal(number, stop.request)
            code = _wait(launcher, stop)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return Interrupted.exit_code if marker.exists() else code


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


def _wait(launcher: "subprocess.Popen[bytes]", stop: _Stop) -> int:
    ranks: dict[int, str] = {}
    while True:
        ranks |= dict(find_ranks(launcher.pid))
        try:
            code = launcher.wait(ASKED_EVERY_S)
        except subprocess.TimeoutExpired:
            if stop.deadline is None:
                continue
            if time.monotonic() > stop.deadline:
                launcher.kill()
            elif PROCESSES.is_dir():  # each time, since a rank that is still starting ignores signals
                _signal(ranks, signal.SIGTERM)
            else:
                launcher.terminate()
        else:
            _signal(ranks, signal.SIGKILL)  # of a launcher that was killed
            return code if code >= 0 else 128 - code


def find_ranks(launcher: int) -> Iterator[tuple[int, str]]:
    """The ranks below a launcher, process ids and starting times; none where there is no /proc.

    A rank has `RANK` in its environment, and its parent has not.
    """
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    for path in PROCESSES.glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(path.name)], started[int(path.name)] = int(fields[1]), fields[19]
    below = {launcher}
    todo = [launcher]
    while todo:
        parent = todo.pop()
        children = [process for process, above in parents.items() if above == parent and process not in below]
        below.update(children)
        if not _is_rank(parent):
            todo += children
        elif parent != launcher:
            yield parent, started[parent]


def _is_rank(process: int) -> bool:
    try:
        return b"\0RANK=" in b"\0" + (PROCESSES / str(process) / "environ").read_bytes()
    except OSError:
        return False


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
