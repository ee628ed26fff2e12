"""Features of Linux that other systems may lack, checked only here."""

import ctypes
import os
import signal
from collections.abc import Callable
from io import FileIO

# Namespaces, seccomp, memfd and pidfd come together; Python exposes the last two.
IS_LINUX = hasattr(os, "pidfd_open") and hasattr(os, "memfd_create") and hasattr(os, "fork")


def list_stop_signals() -> list[signal.Signals]:
    """The signals that request a stop: SIGTERM, on POSIX SIGUSR1 (Slurm's before its limit), on Windows SIGBREAK."""
    names = ("SIGTERM", "SIGUSR1", "SIGBREAK")
    return [signal.Signals(getattr(signal, name)) for name in names if hasattr(signal, name)]


def make_parent_death_signal(number: signal.Signals) -> Callable[[], None]:
    """A function by which a process asks for a signal when its parent ends; it does nothing on other systems."""
    try:
        control = ctypes.CDLL(None).prctl  # loaded here, since a forked child should load nothing
    except (AttributeError, OSError, TypeError):
        return lambda: None
    return lambda: control(1, int(number), 0, 0, 0)  # PR_SET_PDEATHSIG


def read_at(file: FileIO, size: int, offset: int) -> bytes:
    """Reads bytes at a place of a file; fewer at its end.

    On POSIX the file's own place is left alone, so that processes that were forked may share it.
    """
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)
    return file.read(size)
