"""Tar and zip archives, read as streams: nothing is unpacked to disk."""

import fnmatch
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO

from ..languages import name_language
from ..settings import Source
from .folders import SKIPPED_FOLDERS
from .source import Document, Unit

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".whl", ".jar")
# An archive is a bomb if it unpacks to more bytes than this, and to this many times its own size.
BOMB_BYTES = 1_000_000_000
BOMB_RATIO = 200
_ZIP = (".zip", ".whl", ".jar")
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the members of an archive, one document each.

    A name that leads out of the archive's folder gets the reason "unsafe-path". If the archive is truncated or a bomb,
    one document says so ("corrupt-file", "archive-bomb") and the rest is not read.
    """
    members = _read_zip if unit.path.lower().endswith(_ZIP) else _read_tar
    limit = max(BOMB_BYTES, BOMB_RATIO * unit.size)
    seen: dict[str, int] = {}
    try:
        for name, size, held, stream in members(unit.path):
            if held > limit:
                yield Document(f"{unit.id}!", unit.id, size=0, reason="archive-bomb")
                return
            if _is_excluded(name, source):
                continue
            # A name may occur twice in an archive; both are documents.
            seen[name] = seen.get(name, 0) + 1
            key = f"{unit.id}!{name}" + (f"#{seen[name]}" if seen[name] > 1 else "")
            found = Document(key, name, size=size, language=name_language(name), licence=unit.licence)
            if is_unsafe(name):
                yield replace(found, reason="unsafe-path")
            elif size > max_bytes:
                yield replace(found, reason="too-large")
            elif stream is None:
                yield replace(found, reason="unreadable")
            else:
                content = stream.read(max_bytes + 1)
                yield replace(found, content=content, size=len(content))
    except _BROKEN:
        yield Document(f"{unit.id}!", unit.id, reason="corrupt-file")


def is_unsafe(name: str) -> bool:
    """Whether a member would be written outside of the folder that its archive is unpacked in.

    >>> is_unsafe("../etc/passwd"), is_unsafe("/etc/passwd"), is_unsafe("src/a..b.py")
    (True, True, False)
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or path.parts[:1] == ("~",) or name[1:3] == ":\\"


def _is_excluded(name: str, source: Source) -> bool:
    if SKIPPED_FOLDERS.intersection(PurePosixPath(name).parts):
        return True
    return any(fnmatch.fnmatch(name, pattern) for pattern in source.exclude)


def _read_tar(path: str) -> Iterator[tuple[str, int, int, IO[bytes]]]:
    held = 0
    with tarfile.open(path, mode="r|*") as archive:
        for member in archive:
            held += member.size
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is not None:
                yield member.name.removeprefix("./"), member.size, held, stream


def _read_zip(path: str) -> Iterator[tuple[str, int, int, IO[bytes] | None]]:
    held = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            held += member.file_size
            if member.is_dir():
                continue
            if member.flag_bits & 1:  # encrypted
                yield member.filename, member.file_size, held, None
                continue
            with archive.open(member) as stream:
                yield member.filename, member.file_size, held, stream
