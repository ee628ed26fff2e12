"""What Linux has and other systems may lack: the one place that asks for it."""

import os
import signal
from io import FileIO

# Namespaces, seccomp, memfd and pidfd come together; of the four, Python names the last two.
IS_LINUX = hasattr(os, "pidfd_open") and hasattr(os, "memfd_create") and hasattr(os, "fork")


def list_stop_signals() -> list[signal.Signals]:
    """Lists the signals by which schedulers and consoles ask a run to stop, as far as this system has them.

    Returns:
        SIGTERM everywhere; SIGUSR1, which Slurm sends before its limit, on POSIX; SIGBREAK, Ctrl-Break, on Windows.
    """
    names = ("SIGTERM", "SIGUSR1", "SIGBREAK")
    return [signal.Signals(getattr(signal, name)) for name in names if hasattr(signal, name)]


def read_at(file: FileIO, size: int, offset: int) -> bytes:
    """Reads bytes at a place of a file; fewer at its end.

    On POSIX the file's own place is left alone, so that processes that were forked may share it.
    """
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)
    return file.read(size)
