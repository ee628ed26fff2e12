"""Folders of files, with or without git checkouts."""

import fnmatch
import os
import re
from collections.abc import Iterator
from configparser import Error as ConfigError
from configparser import RawConfigParser
from pathlib import Path

from ...errors import DataError
from ..languages import name_language
from ..settings import Source
from .history import open_regular
from .licences import find_licence
from .source import Document, Unit

SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", "node_modules"})
_MAX_CONFIG_BYTES = 1 << 20
_CREDENTIALS = re.compile(r"(?<=://)[^/@]+@")


def list_units(source: Source) -> Iterator[Unit]:
    """Lists every file, folder by folder in order; an unreadable folder is one unit.

    Symbolic links are skipped: those to folders may form a loop, and targets of those to files are read anyway. Files
    of a checkout have its address and licence, and others the repository that the source's settings name.

    Raises:
        DataError: If the folder is missing or cannot be read.
    """
    place = source.place
    if not place.is_dir():
        raise DataError(f"source {source.name} is {place}, which is not a folder; name one that exists")
    if not os.access(place, os.R_OK | os.X_OK):
        raise DataError(
            f"source {source.name} is {place}, which cannot be read; change its permissions, or leave it out"
        )
    repository = source.name if source.repository == "source" else None
    yield from walk(source, place, prefix=source.name, repository=repository, licence=source.licence, stars=None)


def walk(
    source: Source, top: Path, *, prefix: str, repository: str | None, licence: str | None, stars: int | None
) -> Iterator[Unit]:
    """Lists the files below a folder, in order; `prefix`, without a slash, starts their ids."""
    unreadable: list[OSError] = []
    belongs = {str(top): (repository, licence, "")}
    for parent, folders, files in os.walk(top, onerror=unreadable.append):
        start = "" if parent == str(top) else os.path.relpath(parent, top).replace(os.sep, "/") + "/"
        if ".git" in folders or ".git" in files:
            belongs[parent] = (find_address(Path(parent)) or repository, find_licence(Path(parent)) or licence, start)
        owner, rights, root = belongs.pop(parent, (repository, licence, ""))
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        is_folder_of_repositories = source.repository == "folder" and parent == str(top) and owner is None
        for name in folders:
            mine = (name, rights, f"{name}/") if is_folder_of_repositories else (owner, rights, root)
            belongs[os.path.join(parent, name)] = mine
        for name in sorted(files):
            path = os.path.join(parent, name)
            relative = start + name
            if any(fnmatch.fnmatch(relative, pattern) for pattern in source.exclude) or os.path.islink(path):
                continue
            try:
                size = os.stat(path).st_size
            except OSError:
                size = 0  # read() reports the reason
            if not os.path.isfile(path):  # opening a pipe would block
                continue
            yield Unit(
                *(source.name, path, size, f"{prefix}/{relative}"),
                repository=owner,
                licence=rights,
                stars=stars,
                language=name_language(name),
                path_in_repository=relative.removeprefix(root) if owner else "",
            )
    for error in sorted(unreadable, key=lambda error: str(error.filename)):
        relative = os.path.relpath(error.filename, top)
        yield Unit(source.name, error.filename, 0, f"{prefix}/{relative}/", reason="unreadable", repository=repository)


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads a file as one document."""
    content, reason = b"", unit.reason
    if reason is None:
        try:
            with open_regular(unit.path) as file:
                content = file.read(max_bytes + 1)
        except OSError:
            reason = "unreadable"
    yield Document(
        *(
            unit.id,
            unit.path_in_repository or unit.id.removeprefix(f"{source.name}/"),
            content,
            max(unit.size, len(content)),
            unit.language,
        ),
        *(unit.repository, unit.licence, unit.stars, reason),
    )


def find_address(checkout: Path) -> str | None:
    """The address of a checkout's `origin`, without credentials."""
    config = RawConfigParser(strict=False)
    try:
        with open_regular(checkout / ".git" / "config") as file:
            config.read_string(file.read(_MAX_CONFIG_BYTES).decode("utf-8", "replace"))
    except (OSError, ConfigError):
        return None
    address = config.get('remote "origin"', "url", fallback=None)
    return _CREDENTIALS.sub("", address) if address else None
