"""Reads the history of an untrusted repository with git, using nothing of the repository but its objects.

A repository's configuration can name programs that git runs, files that it reads, and encodings. So git runs in an
empty repository of ours, without configuration, on the other's objects. It never fetches, and opens only regular files,
since a pipe would block for ever.
"""

import os
import re
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import cast

IDLE_S = 120.0  # after so long without output, git is stopped
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REFERENCE = re.compile(r"refs/[^\x00-\x20~^:?*\[\\]{1,1000}")
_MAX_REFERENCES = 1 << 26
_BIG_FILE = "16m"  # git does not diff larger files
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class History:
    """A repository: the folder with `objects`, and the checked-out commit as 40 or 64 hexadecimal digits."""

    folder: Path
    head: str


def find_history(checkout: Path, top: Path) -> History | None:
    """Finds the history of a checkout or a bare repository.

    Args:
        checkout: The folder of the repository.
        top: The source's folder; a `.git` that points outside of it is not followed.

    Returns:
        `None` if there is no commit, or the repository is malformed.
    """
    try:
        folder = checkout / ".git" if os.path.lexists(checkout / ".git") else checkout
        if folder.is_file():  # a submodule or a linked worktree
            folder = checkout / _read_line(folder).removeprefix("gitdir: ")
        shared = folder / _read_line(folder / "commondir") if os.path.lexists(folder / "commondir") else folder
        inside = top.resolve()
        if not all(path.resolve().is_relative_to(inside) for path in (folder, shared, shared / "objects")):
            return None
        head = _resolve(folder, shared)
    except (OSError, ValueError, RuntimeError):  # the last for a loop of links
        return None
    return History(shared, head) if head is not None else None


def _resolve(folder: Path, shared: Path) -> str | None:
    word = _read_line(folder / "HEAD")
    for _ in range(5):  # symbolic references
        if not word.startswith("ref: "):
            return word if _HASH.fullmatch(word) else None
        name = word.removeprefix("ref: ").strip()
        if not _REFERENCE.fullmatch(name) or ".." in name:
            return None
        if os.path.lexists(shared / name):
            word = _read_line(shared / name)
            continue
        with open_regular(shared / "packed-refs") as file:
            for line in file.read(_MAX_REFERENCES).decode("utf-8", "replace").split("\n"):
                if line.endswith(f" {name}") and not line.startswith(("#", "^")):
                    word = line.partition(" ")[0]
                    break
            else:
                return None
    return None


def _read_line(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(4096).decode("utf-8").partition("\n")[0].rstrip("\r")


def open_regular(path: Path | str) -> BufferedReader:
    """Opens a regular file for reading.

    Raises:
        OSError: If it is a pipe, a device or the like, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def are_objects_regular(folder: Path) -> bool:
    """Whether git can open all object files of a repository without blocking."""
    waiting = [str(folder / "objects")]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif not entry.is_file():
                    return False
    return True


class GitFailed(Exception):
    """git failed, or wrote nothing for too long."""


def read_log(history: History, *options: str) -> Iterator[bytes]:
    """Runs `git log` on a history, and yields its output in pieces.

    Raises:
        GitFailed: If it fails; the output until then is correct.
        FileNotFoundError: If git is not installed.
    """
    with _open_plain(history) as (command, environment):
        process = subprocess.Popen(
            [*command, "log", *options, history.head],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        stdout = cast("BufferedReader", process.stdout)
        try:
            while piece := _read_in_time(process, stdout):
                yield piece
            if process.wait() != 0:
                raise GitFailed
        finally:
            process.kill()
            stdout.close()
            process.wait()


def _read_in_time(process: "subprocess.Popen[bytes]", stdout: BufferedReader) -> bytes:
    guard = threading.Timer(IDLE_S, process.kill)
    guard.daemon = True
    guard.start()
    try:
        return stdout.read1(_PIECE_BYTES)
    finally:
        guard.cancel()


@contextmanager
def _open_plain(history: History) -> Iterator[tuple[list[str], dict[str, str]]]:
    """An empty repository of ours: a command and environment with which git reads the other's objects."""
    with tempfile.TemporaryDirectory(prefix="history-") as name:
        own = Path(name)
        for folder in ("objects", "refs"):
            (own / folder).mkdir()
        (own / "HEAD").write_text(f"{history.head}\n", encoding="ascii")
        is_sha256 = len(history.head) == 64
        lines = ["[core]", f"repositoryformatversion = {int(is_sha256)}", "bare = true"]
        lines += ["[extensions]", "objectformat = sha256"] if is_sha256 else []
        (own / "config").write_text("\n".join(lines) + "\n", encoding="ascii")
        _copy_shallow(history.folder / "shallow", own / "shallow")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {
            "GIT_DIR": str(own),
            "GIT_OBJECT_DIRECTORY": str((history.folder / "objects").resolve()),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "none",
            "LC_ALL": "C",
        }
        settings = (f"core.attributesFile={os.devnull}", f"core.bigFileThreshold={_BIG_FILE}")
        yield ["git", "--no-pager", *(word for setting in settings for word in ("-c", setting))], environment


def _copy_shallow(file: Path, copy: Path) -> None:
    """Copies the list of a shallow clone's last commits, whose parents git would otherwise miss."""
    if not os.path.lexists(file):
        return
    with open_regular(file) as opened:
        words = opened.read(_MAX_REFERENCES).decode("ascii", "replace").split()
    copy.write_text("".join(f"{word}\n" for word in words if _HASH.fullmatch(word)), encoding="ascii")
