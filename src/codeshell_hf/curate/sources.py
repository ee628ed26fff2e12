"""Files to curate: where they lie, and what can be read of them."""

import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .languages import name_language, name_language_by_shebang

SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", "node_modules"})
SHEBANG_BYTES = 128


@dataclass(frozen=True)
class Folder:
    """A folder to read.

    Args:
        name: What its documents are called by.
        path: Where it lies.
        exclude: Patterns of relative paths to leave out, as in a shell, `*` matching slashes too.
    """

    name: str
    path: Path
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file that was found.

    Args:
        id: The folder's name and the path in it, with slashes.
        source: The folder's name.
        path: Where it lies.
        size: In bytes.
        language: By its name, `None` where that says nothing.
    """

    id: str
    source: str
    path: str
    size: int
    language: str | None


def list_files(folders: Iterable[Folder]) -> list[File]:
    """Finds every file, in the order of their ids.

    Links to folders are not followed, so a loop of them ends; links to files are left out, since their targets count.

    Args:
        folders: Where to look.

    Returns:
        Files sorted by id, each once.

    Raises:
        DataError: If a folder is missing or cannot be read, or there is no file at all.
    """
    folders = list(folders)
    found = {file.id: file for folder in folders for file in _walk(folder)}
    if not found:
        named = ", ".join(str(folder.path) for folder in folders) or "no folder"
        raise DataError(f"no file was found in {named}; name folders with source files under sources")
    return [found[key] for key in sorted(found)]


def _walk(folder: Folder) -> Iterator[File]:
    if not folder.path.is_dir():
        raise DataError(f"source {folder.name} is {folder.path}, which is no folder; name one that exists")
    if not os.access(folder.path, os.R_OK | os.X_OK):
        raise DataError(
            f"source {folder.name} is {folder.path}, which cannot be read; change its rights or leave it out"
        )
    for parent, folders, files in os.walk(folder.path):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(parent, name)
            relative = path.relative_to(folder.path).as_posix()
            if path.is_symlink() or any(fnmatch.fnmatch(relative, pattern) for pattern in folder.exclude):
                continue
            try:
                size = path.stat().st_size
            except OSError:
                size = 0  # read_text names the reason
            yield File(f"{folder.name}/{relative}", folder.name, str(path), size, name_language(name))


def read_text(path: str, *, language: str | None, max_bytes: int) -> tuple[str | None, str | None, str | None]:
    """Reads a document, or says why not. It never raises: one bad file must not end a corpus.

    Args:
        path: The file.
        language: By its name, or `None`.
        max_bytes: Longer files are not read.

    Returns:
        Text, language and `None`; or `None`, the language as far as it is known, and the reason: "unreadable",
        "unknown-language", "too-large", "empty" or "not-text".
    """
    try:
        with open(path, "rb") as file:
            start = file.read(SHEBANG_BYTES)
            language = language or name_language_by_shebang(start)
            if language is None:
                return None, None, "unknown-language"
            data = start + file.read(max_bytes + 1 - len(start)) if len(start) == SHEBANG_BYTES else start
    except OSError:
        return None, language, "unreadable"
    if len(data) > max_bytes:
        return None, language, "too-large"
    if not data.strip():
        return None, language, "empty"
    if b"\0" in data:
        return None, language, "not-text"
    try:
        return data.decode("utf-8"), language, None
    except UnicodeDecodeError:
        return None, language, "not-text"


def split_parts(files: Sequence[File], *, part_bytes: int) -> list[list[File]]:
    """Cuts a list of files into parts of about one size, each at least one file.

    Args:
        files: In order.
        part_bytes: A part is closed when it holds this many bytes.

    Returns:
        The parts, in order.
    """
    parts: list[list[File]] = [[]]
    held = 0
    for file in files:
        if held >= part_bytes:
            parts.append([])
            held = 0
        parts[-1].append(file)
        # What no language is known of is looked at for its first line alone.
        held += file.size if file.language else SHEBANG_BYTES
    return parts
