"""What can be read of a source at a time, and the documents that come out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..settings import Source


@dataclass(frozen=True)
class Unit:
    """What is read at once: a file, or a range of a large one.

    Args:
        source: The source's name.
        path: The file.
        size: Its bytes, for cutting parts.
        id: The document's id where the unit is one document.
        start: First byte or row group.
        stop: The byte or row group after the last; `None` for the whole file.
        repository: Address, where it is known; licence and stars are the repository's.
        reason: Why nothing of it can be read, `None` where it can.
        language: By its name, where it is one file.
        version: Of what changes within its folder, such as the commit that a repository is at.
        path_in_repository: Where a file lies in its repository; empty for what has none.
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
        path: In its repository, or what stands for it.
        content: Bytes that should be UTF-8; empty where `reason` says why.
        size: In bytes, also of what was not read.
        language: A key of `LANGUAGES`, `None` where it is not known.
        licence: SPDX name.
        reason: Why it cannot be read, `None` where it can.
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
    """Finds the files of a source that are tables, archives or dumps, without links, in order.

    Args:
        source: Its path is a file, whatever its name, or a folder.
        suffixes: What names end in, in lower case.

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
        raise DataError(f"source {source.name} is {place}, where no file ends in {' or '.join(suffixes)}")
    return paths


def list_whole_files(source: Source, suffixes: tuple[str, ...]) -> Iterator[Unit]:
    """Finds files that are each read at once, as `list_files` does."""
    for path in list_files(source, suffixes):
        yield Unit(source.name, str(path), path.stat().st_size, name_file(source, path), licence=source.licence)


def is_plain_file(path: Path) -> bool:
    """Whether a path is a file and no link; False also where its status cannot be read."""
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:
        return False


def name_file(source: Source, path: Path) -> str:
    """The start of a document's id: the source's name and the path below it, with slashes."""
    place = source.place
    return f"{source.name}/{path.relative_to(place).as_posix() if path != place else path.name}"
