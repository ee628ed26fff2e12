"""Units of sources, and documents."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..settings import Source


@dataclass(frozen=True)
class Unit:
    """A unit of reading: a file, or a range of a large one.

    Args:
        source: The source's name.
        path: The file.
        size: In bytes, for grouping into parts.
        id: The document's id, if the unit is one document.
        start: First byte or row group.
        stop: Byte or row group after the last; `None` for the whole file.
        repository: Address, if known; licence and stars are the repository's.
        reason: Why it cannot be read; `None` if it can.
        language: By its name, if it is one document.
        version: Of a folder that changes, such as a repository's commit.
        path_in_repository: A file's path in its repository; empty if it has none.
    """

    source: str
    path: str
    size: int
    id: str = ""
    start: int = 0
    stop: int | None = None
    repository: str | None = None
    licence: str | None = None
    stars: int | None = None
    reason: str | None = None
    language: str | None = None
    version: str = ""
    path_in_repository: str = ""


@dataclass(frozen=True)
class Document:
    """A document as its source gives it.

    Args:
        id: Unique.
        path: In its repository, or an equivalent.
        content: Bytes that should be UTF-8; empty if there is a `reason`.
        size: In bytes, even if it was not read.
        language: A key of `LANGUAGES`; `None` if unknown.
        licence: SPDX name.
        reason: Why it cannot be read; `None` if it can.
        origin: Where it comes from: a repository's or data set's address, else the file in its source.
        version: The commit of the repository or data set; `None` if there is none.
    """

    id: str
    path: str
    content: bytes = b""
    size: int = 0
    language: str | None = None
    repository: str | None = None
    licence: str | None = None
    stars: int | None = None
    reason: str | None = None
    origin: str = ""
    version: str | None = None


def list_whole_files(source: Source, suffixes: tuple[str, ...]) -> Iterator[Unit]:
    """Lists the tables, archives or dumps of a source in order, each as one unit.

    Links, pipes and the like, and what cannot be listed, are units with a reason: "link", "not-a-file", "unreadable".

    Args:
        source: Its path is a file of any name, or a folder.
        suffixes: In lower case.

    Raises:
        DataError: If there is none.
    """
    place = source.place
    if place.is_file():
        yield Unit(source.name, str(place), place.stat().st_size, name_file(source, place), licence=source.licence)
        return
    if not place.is_dir():
        raise DataError(f"source {source.name} is {place}, which does not exist; name a file or folder that does")
    is_empty = True
    for path, size, reason in walk_files(place):
        if reason == "unreadable" and size < 0:  # a folder
            yield Unit(source.name, path, 0, f"{name_file(source, Path(path))}/", reason=reason)
        elif path.lower().endswith(suffixes):
            is_empty = False
            yield Unit(*(source.name, path, size, name_file(source, Path(path))), licence=source.licence, reason=reason)
    if is_empty:
        raise DataError(f"source {source.name} is {place}, which has no file that ends in {' or '.join(suffixes)}")


def walk_files(top: Path) -> Iterator[tuple[str, int, str | None]]:
    """Path, size and reason of everything below a folder that is not itself a folder, in order.

    A folder that cannot be listed has size -1 and the reason "unreadable"; see `check_file` for others.
    """
    unreadable: list[str] = []
    for parent, _, names in walk_folders(str(top), unreadable):
        for name in names:
            path = f"{parent}{os.sep}{name}"
            yield path, *check_file(path)
    for path in sorted(unreadable):
        yield path, -1, "unreadable"


def walk_folders(top: str, unreadable: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, in order and to any depth; links are not followed, and are among the other names.

    Args:
        unreadable: Gets the folders that cannot be listed, or not to the end.
    """
    waiting = [top]
    while waiting:
        parent = waiting.pop()
        folders: list[str] = []
        others: list[str] = []
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        except OSError:
            unreadable.append(parent)
        folders.sort()
        yield parent, folders, sorted(others)
        waiting += [f"{parent}{os.sep}{name}" for name in reversed(folders)]


def check_file(path: str) -> tuple[int, str | None]:
    """A file's size, and why it cannot be read: "link", "not-a-file", "unreadable", or `None` if it can."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0, "unreadable"
    if stat.S_ISLNK(status.st_mode):
        return 0, "link"
    return (status.st_size, None) if stat.S_ISREG(status.st_mode) else (0, "not-a-file")


def name_file(source: Source, path: Path) -> str:
    """The start of a document's id: the source's name and the relative path, with slashes."""
    place = source.place
    return f"{source.name}/{path.relative_to(place).as_posix() if path != place else path.name}"
