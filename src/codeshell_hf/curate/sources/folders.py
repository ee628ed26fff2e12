"""Folders of files, with or without git checkouts."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from ..languages import name_language
from ..settings import Source
from .history import find_history, open_regular
from .licences import find_licence
from .source import Document, Unit, check_file, walk_folders

SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", "node_modules"})
_MAX_CONFIG_BYTES = 1 << 16
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]{1,1000}@")


def list_units(source: Source) -> Iterator[Unit]:
    """Lists every file, folder by folder in order; an unreadable folder is one unit.

    Symbolic links, pipes, sockets and devices are units with a reason, and are not opened: links to folders may form a
    loop, and targets of those to files are read anyway. Files of a checkout have its address, commit and licence, and
    others the repository that the source's settings name.

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
    unreadable: list[str] = []
    belongs = {str(top): (repository, licence, "", "")}
    for parent, folders, names in walk_folders(str(top), unreadable):
        start = "" if parent == str(top) else os.path.relpath(parent, top).replace(os.sep, "/") + "/"
        owner, rights, root, version = belongs.pop(parent, (repository, licence, "", ""))
        if ".git" in folders or ".git" in names:
            checkout = Path(parent)
            history = find_history(checkout, top)
            owner, rights = find_address(checkout) or owner, find_licence(checkout) or rights
            root, version = start, history.head if history is not None else ""
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        is_folder_of_repositories = source.repository == "folder" and parent == str(top) and owner is None
        for name in folders:
            mine = (name, rights, f"{name}/", "") if is_folder_of_repositories else (owner, rights, root, version)
            belongs[os.path.join(parent, name)] = mine
        for name in names:
            path = os.path.join(parent, name)
            relative = start + name
            if name in SKIPPED_FOLDERS or any(fnmatch.fnmatch(relative, pattern) for pattern in source.exclude):
                continue
            size, reason = check_file(path)
            yield Unit(
                *(source.name, path, size, f"{prefix}/{relative}"),
                repository=owner,
                licence=rights,
                stars=stars,
                reason=reason,
                language=name_language(name) if reason in (None, "unreadable") else None,
                version=version,
                path_in_repository=relative.removeprefix(root) if owner else "",
            )
    for path in sorted(unreadable):
        relative = os.path.relpath(path, top)
        yield Unit(source.name, path, 0, f"{prefix}/{relative}/", reason="unreadable", repository=repository)


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
    try:
        with open_regular(checkout / ".git" / "config") as file:
            lines = file.read(_MAX_CONFIG_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    is_origin = False
    for line in map(str.strip, lines):
        if line.startswith("["):
            is_origin = line.lower().startswith('[remote "origin"]')
        elif is_origin:
            key, equals, value = line.partition("=")
            if equals and key.strip().lower() == "url" and value.strip():
                return _CREDENTIALS.sub("", value.strip().strip('"'))
    return None
