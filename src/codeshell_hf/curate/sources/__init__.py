"""Sources of documents: every kind lists units of work and reads them.

A broken file or row never stops a run: it becomes a document with a reason.
"""

import difflib
import errno
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ...errors import CodeShellError, SettingsError
from ...extensions import load_object
from ..languages import LANGUAGES
from ..settings import Source
from . import archives, commits, dumps, folders, issues, notebooks, repositories, tables, warc
from .cleaning import clean_document, clean_text
from .source import Document, Unit, list_whole_files

__all__ = ["Document", "Source", "Unit", "list_units", "list_whole_files", "read_unit"]

_logger = logging.getLogger(__name__)
# Errors of this machine, not of what is read.
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_Reader = tuple[Callable[[Source], Iterator[Unit]], Callable[..., Iterator[Document]]]
READERS: dict[str, _Reader] = {
    "folder": (folders.list_units, folders.read),
    "repositories": (repositories.list_units, repositories.read),
    "archives": (partial(list_whole_files, suffixes=archives.SUFFIXES), archives.read),
    "jsonl": (tables.list_json_units, tables.read_json),
    "parquet": (tables.list_parquet_units, tables.read_parquet),
    "hub": (tables.list_hub_units, tables.read_hub),
    "stackoverflow": (partial(list_whole_files, suffixes=dumps.POSTS_SUFFIXES), dumps.read_posts),
    "wet": (partial(list_whole_files, suffixes=warc.SUFFIXES), warc.read),
    "commits": (commits.list_units, commits.read),
    "issues": (tables.list_json_units, issues.read),
}


def find_reader(kind: str) -> _Reader:
    """The functions that list and read a kind of source, built in or a user's `folder/file.py:name`.

    Raises:
        SettingsError: If a user's object is not a pair of functions.
    """
    if kind in READERS:
        return READERS[kind]
    found = load_object(kind)
    if isinstance(found, tuple) and len(found) == 2:
        lister, reader = found
        if callable(lister) and callable(reader):
            return lister, reader
    raise SettingsError(f"{kind} is {found!r}; make it a pair of functions, to list units and to read one")


def list_units(source: Source) -> Iterator[Unit]:
    """Lists the units of a source, in a fixed order.

    Raises:
        DataError: If the source is missing or cannot be read.
        SettingsError: If the settings name an unknown language.
    """
    if source.language is not None and source.language not in LANGUAGES:
        near = (difflib.get_close_matches(source.language, LANGUAGES, 1) or ["python"])[0]
        raise SettingsError(
            f"language of source {source.name} is {source.language!r}; name a known one, such as {near}"
        )
    yield from find_reader(source.kind)[0](source)


def read_unit(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads a unit; a notebook becomes two documents.

    Documents longer than `max_bytes` have no content, and the reason "too-large". If the reader fails, the last
    document has the reason "reader-failed". Names and numbers are cleaned.

    Raises:
        CodeShellError: If settings do not fit the source.
        OSError: If this machine lacks space or files.
    """
    origin, version = _find_origin(unit)
    try:
        for document in find_reader(source.kind)[1](source, unit, max_bytes=max_bytes):
            cleaned = clean_document(replace(document, origin=origin, version=version))
            if cleaned.language == "jupyter-notebook" and cleaned.reason is None:
                yield from _convert(cleaned, max_bytes)
            else:
                yield cleaned
    except CodeShellError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno in _OURS):
            raise
        _logger.warning("%s cannot be read to its end: %s: %s", clean_text(unit.id), type(error).__name__, error)
        yield clean_document(Document(f"{unit.id}!failed", unit.id, size=unit.size, reason="reader-failed"))


def _find_origin(unit: Unit) -> tuple[str, str | None]:
    """Where a unit's documents come from, and its version: an address and a commit, or the file in its source."""
    if unit.path.startswith("hf://"):
        return unit.path, unit.path.partition("@")[2].partition("/")[0] or None
    if unit.repository and unit.version:
        return unit.repository, unit.version
    return unit.id.partition("/")[2], unit.version or None


def _convert(document: Document, max_bytes: int) -> Iterator[Document]:
    if len(document.content) > max_bytes:
        yield document
        return
    for form in notebooks.FORMS:
        text = notebooks.convert_notebook(document.content, form)
        key = f"{document.id}#{form.removeprefix('jupyter-')}"
        if text is None:
            yield replace(document, id=key, content=b"", language=form, reason="corrupt-file")
        else:
            content = text.encode("utf-8", errors="surrogatepass")
            yield replace(document, id=key, content=content, size=len(content), language=form)
