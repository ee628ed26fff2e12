"""Commits: each is a document of message and diff."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import DataError
from ..settings import Source
from .folders import find_address
from .history import GitFailed, are_objects_regular, find_history, read_log
from .licences import find_licence
from .source import Document, Unit, check_file

_OPTIONS = (
    *("--reverse", "--no-merges", "--patch", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
    *("--no-show-signature", "--format=%x00%H%x00%B%x00"),
)


def list_units(source: Source) -> Iterator[Unit]:
    """Finds repositories: the source is a checkout, or a folder with checkouts or bare repositories.

    Raises:
        DataError: If there is none.
    """
    place = source.place
    repositories = [place] if is_repository(place) else sorted(path for path in place.glob("*") if is_repository(path))
    repositories = repositories or sorted({path.parent for path in place.glob("*/*/.git")})
    if not repositories:
        raise DataError(
            f"source {source.name} is {place}, which has no git checkout; name a checkout or a folder of them"
        )
    for path in repositories:
        name = path.relative_to(place).as_posix() if path != place else path.name
        history = find_history(path, place)
        packs = [] if history is None else history.folder.glob("objects/pack/*.pack")
        size = sum(check_file(str(file))[0] for file in packs)
        yield Unit(
            *(source.name, str(path), size, f"{source.name}/{name}"),
            repository=find_address(path),
            licence=find_licence(path) or source.licence,
            reason="unreadable" if history is None else None,
            version="" if history is None else history.head,
        )


def is_repository(path: Path) -> bool:
    """Whether a folder is a checkout or a bare repository."""
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the commits of a repository, oldest first, without merges: message, empty line, diff."""
    history = find_history(Path(unit.path), source.place)
    try:
        if history is None or not are_objects_regular(history.folder):
            raise GitFailed
        fields = _split(read_log(history, *_OPTIONS), max_bytes)
        next(fields, None)  # before the first commit
        for name in fields:
            message, change = next(fields, None), next(fields, None)
            key = f"{unit.id}@{(name or b'').decode(errors='replace')}"
            if message is None or change is None:
                yield Document(key, unit.id, reason="too-large", size=max_bytes, repository=unit.repository)
                continue
            content = message.strip() + b"\n\n" + change.strip(b"\n") + b"\n"
            fits = len(content) <= max_bytes
            yield Document(
                *(key, unit.id, content if fits else b"", len(content), "git-commits", unit.repository, unit.licence),
                *(None, None if fits else "too-large"),
            )
    except (GitFailed, OSError):
        yield Document(unit.id, unit.id, reason="unreadable", repository=unit.repository)


def _split(pieces: Iterable[bytes], max_bytes: int) -> Iterator[bytes | None]:
    """The fields between NUL bytes; `None` for one that is longer than `max_bytes`."""
    held, is_long = bytearray(), False
    for piece in pieces:
        *ends, rest = piece.split(b"\0")
        for end in ends:
            held += end
            yield None if is_long or len(held) > max_bytes else bytes(held)
            held, is_long = bytearray(), False
        held += rest
        if len(held) > max_bytes:
            held, is_long = bytearray(), True
    yield None if is_long else bytes(held)
