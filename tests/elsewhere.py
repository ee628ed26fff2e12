"""A Python in which this project finds nothing that is Linux's or POSIX's own, and which notes what files it reads.

As `sitecustomize` it works in every Python that a command starts; as a program it runs a module as `-m` does.
What Windows and macOS both lack is gone for everyone. What Windows alone lacks is gone for the modules of this project:
other packages have ways of their own there, which are not on this machine.
"""

import builtins
import importlib
import importlib.util
import os
import runpy
import signal
import socket
import sys
import warnings
from types import ModuleType
from typing import Any

OURS = {"codeshell_hf", "recipes", "tokenizer", "benchmarks", "inside"}
LINUX_ALONE = {
    "os": {
        "sched_getaffinity", "sched_setaffinity", "pidfd_open", "memfd_create", "O_PATH", "getrandom", "eventfd",
        "copy_file_range", "splice", "posix_fadvise", "unshare", "setns",
    },
}  # fmt: skip
POSIX_ALONE = {
    "os": {
        "fork", "forkpty", "setsid", "setpgid", "getpgid", "killpg", "geteuid", "getegid", "getuid", "getgid", "setuid",
        "uname", "nice", "getloadavg", "mkfifo", "chown", "wait", "wait3", "wait4", "WIFSIGNALED", "sysconf", "statvfs",
        "posix_spawn", "pipe2", "sync", "register_at_fork", "openpty", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW",
        "pread",
    },
    "signal": {
        "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGSTOP", "SIGPIPE", "alarm",
        "setitimer", "pause", "pthread_kill", "pthread_sigmask", "sigwait",
    },
    "socket": {"AF_UNIX", "socketpair", "send_fds", "recv_fds"},
}  # fmt: skip
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "readline", "curses"}


def is_ours(values: dict[str, Any]) -> bool:
    return str(values.get("__package__") or values.get("__name__")).partition(".")[0] in OURS


class Hiding(ModuleType):
    """A module of the standard library, in which our modules do not find some names."""

    def __getattribute__(self, name: str) -> Any:
        gone = POSIX_ALONE.get(ModuleType.__getattribute__(self, "__name__"), ())
        if name in gone and is_ours(sys._getframe(1).f_globals):
            raise AttributeError(f"module has no attribute {name!r}")
        return ModuleType.__getattribute__(self, name)


def hide() -> None:
    for name in LINUX_ALONE["os"]:
        if hasattr(os, name):
            delattr(os, name)
    for module in (os, signal, socket):
        module.__class__ = Hiding
    real_import, real_find, real_module = builtins.__import__, importlib.util.find_spec, importlib.import_module

    def import_name(name: str, values: Any = None, *rest: Any, **more: Any) -> Any:
        if name in MODULES and values is not None and is_ours(values):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(name, values, *rest, **more)

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in MODULES and is_ours(sys._getframe(1).f_globals) else real_find(name, package)

    def import_module(name: str, package: str | None = None) -> Any:
        if name in MODULES and is_ours(sys._getframe(1).f_globals):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_module(name, package)

    builtins.__import__ = import_name  # type: ignore[assignment]
    importlib.util.find_spec, importlib.import_module = find_spec, import_module
    # Where the encoding of files is not UTF-8, those that are opened without one come out otherwise.
    warnings.filterwarnings("error", category=EncodingWarning, module=rf"({'|'.join(OURS)}|__main__)\b")


def note_reads(root: str, log: str) -> None:
    """Writes the path of every file below a folder that this process opens, one a line."""
    out = os.open(f"{log}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen = set()

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], (str, os.PathLike)):
            path = os.path.abspath(os.fspath(given[0]))  # noqa: PTH100 - links stay as they are
            if path.startswith(f"{root}/") and path not in seen:
                seen.add(path)
                os.write(out, f"{path[len(root) + 1 :]}\n".encode())

    sys.addaudithook(hook)


if "ELSEWHERE_LOG" in os.environ:
    note_reads(os.environ["ELSEWHERE_ROOT"], os.environ["ELSEWHERE_LOG"])
    hide()
if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
