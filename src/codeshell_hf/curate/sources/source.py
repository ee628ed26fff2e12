"""Units of sources, and documents."""

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


def list_files(source: Source, suffixes: tuple[str, ...]) -> list[Path]:
    """Lists the tables, archives or dumps of a source in order, without symbolic links.

    Args:
        source: Its path is a file of any name, or a folder.
        suffixes: In lower case.

    Raises:
        DataError: If there is none.
    """
    place = source.place
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"source {source.name} is {place}, which does not exist; name a file or folder that does")
    paths = [path for path in sorted(place.rglob("*")) if path.name.lower().endswith(suffixes) and is_plain_file(path)]
    if not paths:
        raise DataError(f"source {source.name} is {place}, which has no file that ends in {' or '.join(suffixes)}")
    return paths


def list_whole_files(source: Source, suffixes: tuple[str, ...]) -> Iterator[Unit]:
    """Lists files, each as one unit, as `list_files` does."""
    for path in list_files(source, suffixes):
        yield Unit(source.name, str(path), path.stat().st_size, name_file(source, path), licence=source.licence)


def is_plain_file(path: Path) -> bool:
    """Whether a path is a regular file and no symbolic link; False if its status cannot be read."""
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:
        return False


def name_file(source: Source, path: Path) -> str:
    """The start of a document's id: the source's name and the relative path, with slashes."""
    place = source.place
    return f"{source.name}/{path.relative_to(place).as_posix() if path != place else path.name}"
