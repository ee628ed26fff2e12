"""Tar and zip archives, read member by member: nothing is unpacked to disk."""

import bz2
import fnmatch
import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedReader
from pathlib import PurePosixPath
from typing import BinaryIO

from ..languages import name_language
from ..settings import Source
from .bounds import BombFound, UnpackedBytes, meter
from .folders import SKIPPED_FOLDERS
from .history import open_regular
from .source import Document, Unit
from .tar_members import read_tar
from .zip_members import BROKEN as BROKEN_ZIP
from .zip_members import ZipMember, find_members, read_member, read_zip

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".whl", ".jar")
_ZIP = (".zip", ".whl", ".jar")
_BROKEN = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the members of an archive, one document each; folders are none.

    A name that leads out of the archive's folder gets the reason "unsafe-path". If the archive is truncated or a bomb,
    one document says so ("corrupt-file", "archive-bomb") and the rest is not read.
    """
    read_members = _read_zip if unit.path.lower().endswith(_ZIP) else _read_tar
    # A name may occur twice in an archive; both are documents.
    seen: dict[str, int] = {}
    ids: set[str] = set()
    if unit.reason is not None:
        yield Document(f"{unit.id}!", unit.id, size=unit.size, reason=unit.reason)
        return
    for document in read_members(source, unit, max_bytes):
        name = document.path
        seen[name] = seen.get(name, 0) + 1
        key = f"{unit.id}!{name}" + (f"#{seen[name]}" if seen[name] > 1 else "")
        while key in ids:
            key += "#"
        ids.add(key)
        found = replace(document, id=key, path=name or unit.id, language=name_language(name), licence=unit.licence)
        yield replace(found, content=b"", reason="unsafe-path") if is_unsafe(name) else found


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


def _read_tar(source: Source, unit: Unit, max_bytes: int) -> Iterator[Document]:
    """The members by their names; the archive's own faults have none."""
    try:
        with _open_tar(unit.path, UnpackedBytes(unit.size)) as file:
            for member in read_tar(file):
                found = Document("", member.name.removeprefix("./"), size=member.size, reason=member.reason)
                if _is_excluded(found.path, source):
                    continue
                if member.reason is not None:
                    yield found
                elif member.size > max_bytes:
                    yield replace(found, reason="too-large")
                else:
                    yield replace(found, content=member.read(max_bytes))
    except BombFound:
        yield Document("", "", size=unit.size, reason="archive-bomb")
    except _BROKEN:
        yield Document("", "", size=unit.size, reason="corrupt-file")


def _open_tar(path: str, budget: UnpackedBytes) -> BufferedReader:
    """Opens an archive that is compressed or not, as its first bytes say."""
    file = open_regular(path)
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return meter(gzip.GzipFile(fileobj=file), budget, file)
    if start.startswith(b"BZh"):
        return meter(bz2.open(file), budget, file)
    if start.startswith(b"\xfd7zXZ\0"):
        return meter(lzma.open(file), budget, file)
    return file


def _read_zip(source: Source, unit: Unit, max_bytes: int) -> Iterator[Document]:
    """As `_read_tar`."""
    budget = UnpackedBytes(unit.size)
    done: set[int] = set()
    try:
        with open_regular(unit.path) as file:
            try:
                for member in read_zip(file, unit.size):
                    done.add(member.start)
                    if not _is_excluded(member.name, source):
                        yield _read_member(file, member, max_bytes, budget)
            except BROKEN_ZIP:
                lost = unit.size
                for member in find_members(file, budget):
                    if member.start not in done and not _is_excluded(member.name, source):
                        yield _read_member(file, member, max_bytes, budget)
                    lost -= member.packed or 0
                yield Document("", "", size=max(lost, 0), reason="corrupt-file")
    except BombFound:
        yield Document("", "", size=unit.size, reason="archive-bomb")
    except OSError:
        yield Document("", "", size=unit.size, reason="unreadable")


def _read_member(file: BinaryIO, member: ZipMember, max_bytes: int, budget: UnpackedBytes) -> Document:
    found = Document("", member.name, size=member.size, reason=member.reason)
    if member.reason is not None:
        return found
    if member.size > max_bytes:
        return replace(found, reason="too-large")
    try:
        content = read_member(file, member, max_bytes + 1, budget)
    except BROKEN_ZIP:
        return replace(found, reason="corrupt-member")
    if len(content) > max_bytes:
        return replace(found, size=max(member.size, len(content)), reason="too-large")
    return replace(found, content=content, size=len(content))
