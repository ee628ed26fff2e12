"""What a source is, what can be read of it at a time, and what comes out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ...errors import DataError

Kind = Literal[
    "folder",
    "repositories",
    "archives",
    "jsonl",
    "parquet",
    "hub",
    "stackoverflow",
    "wet",
    "commits",
    "issues",
]
COLUMNS = ("text", "id", "path", "language", "repository", "licence", "stars")


@dataclass(frozen=True)
class Source:
    """One place that documents come from.

    Args:
        name: What its documents are called by; ids begin with it.
        kind: How it is read.
        path: A folder or file; of `hub` a data set's name, with `@revision` and `/folder` as in `hf://datasets/`.
        exclude: Patterns of relative paths to leave out, as in a shell, `*` matching slashes too.
        licence: SPDX name that holds for all of it, where the documents do not say.
        columns: Of tables, which of their columns holds what, by the names in `COLUMNS`.
        clones: Where repositories are cloned to.
    """

    name: str
    kind: Kind
    path: str
    exclude: tuple[str, ...] = ()
    licence: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    clones: str | None = None

    @property
    def place(self) -> Path:
        """The path as one on this machine."""
        return Path(self.path)


@dataclass(frozen=True)
class Unit:
    """What is read in one go: a file, or a range of a large one.

    Args:
        source: The source's name.
        path: The file.
        size: Its share of bytes, for cutting parts.
        id: The document's id where the unit is one document.
        start: First byte or row group.
        stop: The byte or row group after the last; `None` for the whole file.
        repository: Where it belongs, `None` where that is not known.
        licence: Likewise.
        stars: Likewise.
        reason: Why nothing of it can be read, `None` where it can.
        language: By its name, where it is one file.
        version: Of what changes within its folder, such as the commit that a repository is at.
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


@dataclass(frozen=True)
class Document:
    """A document as its source gives it.

    Args:
        id: Unlike every other document's.
        path: In its repository, or what stands for it.
        content: UTF-8, or what claims to be; empty where `reason` says why.
        size: In bytes, also of what was not read.
        language: A key of `LANGUAGES`, `None` where it is not known.
        repository: Address or name.
        licence: SPDX name.
        stars: How many people marked its repository.
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


class Reader(Protocol):
    """How one kind of source is read."""

    def list_units(self, source: Source) -> Iterator[Unit]:
        """Finds what there is to read, in a fixed order.

        Args:
            source: The source.

        Raises:
            DataError: If the whole source is missing or cannot be read.
        """
        ...

    def read(self, source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
        """Reads a unit. It never raises over a document: one bad file must not end a corpus.

        Args:
            source: The source.
            unit: What to read.
            max_bytes: Longer documents come without content, as "too-large".
        """
        ...


def list_files(source: Source, suffixes: tuple[str, ...]) -> list[Path]:
    """Finds the files of a source that are tables, archives or dumps.

    Args:
        source: Its path is a file, whatever its name, or a folder.
        suffixes: What names end in, in lower case.

    Returns:
        Paths in order, none of them a link.

    Raises:
        DataError: If there is none.
    """
    place = source.place
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"source {source.name} is {place}, which does not exist; name a file or folder that does")
    found = [path for path in sorted(place.rglob("*")) if path.name.lower().endswith(suffixes) and is_plain_file(path)]
    if not found:
        raise DataError(f"source {source.name} is {place}, where no file ends in {' or '.join(suffixes)}")
    return found


def list_whole_files(source: Source, suffixes: tuple[str, ...]) -> Iterator[Unit]:
    """Finds files that are each read in one go.

    Args:
        source: A file or folder.
        suffixes: What names end in, in lower case.

    Yields:
        One unit a file, in order.
    """
    for path in list_files(source, suffixes):
        yield Unit(source.name, str(path), path.stat().st_size, name_file(source, path), licence=source.licence)


def is_plain_file(path: Path) -> bool:
    """Whether a path is a file and no link.

    Args:
        path: Any path.

    Returns:
        False also where it cannot be looked at.
    """
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:
        return False


def name_file(source: Source, path: Path) -> str:
    """The start of a document's id: the source's name and the path below it.

    Args:
        source: The source.
        path: A file in it.

    Returns:
        With slashes.
    """
    place = source.place
    return f"{source.name}/{path.relative_to(place).as_posix() if path != place else path.name}"
