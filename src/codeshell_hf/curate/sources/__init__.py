"""Where documents come from: every kind of source lists units of work and reads them.

One broken file or row never ends a run: it is a document with a reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ..settings import Kind, Source
from . import archives, commits, dumps, folders, issues, notebooks, repositories, tables
from .source import Document, Unit, list_whole_files

__all__ = ["Document", "Kind", "Source", "Unit", "list_units", "read_unit"]

_Lister = Callable[[Source], Iterator[Unit]]
_Reader = Callable[..., Iterator[Document]]
READERS: dict[Kind, tuple[_Lister, _Reader]] = {
    "folder": (folders.list_units, folders.read),
    "repositories": (repositories.list_units, repositories.read),
    "archives": (partial(list_whole_files, suffixes=archives.SUFFIXES), archives.read),
    "jsonl": (tables.list_json_units, tables.read_json),
    "parquet": (tables.list_parquet_units, tables.read_parquet),
    "hub": (tables.list_hub_units, tables.read_hub),
    "stackoverflow": (partial(list_whole_files, suffixes=dumps.POSTS_SUFFIXES), dumps.read_posts),
    "wet": (partial(list_whole_files, suffixes=dumps.WET_SUFFIXES), dumps.read_wet),
    "commits": (commits.list_units, commits.read),
    "issues": (tables.list_json_units, issues.read),
}


def list_units(source: Source) -> Iterator[Unit]:
    """Finds what a source holds, in a fixed order.

    Raises:
        DataError: If the source is missing or cannot be read.
    """
    yield from READERS[source.kind][0](source)


def read_unit(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads a unit, notebooks in both their forms.

    Documents longer than `max_bytes` come without content, as "too-large".
    """
    for document in READERS[source.kind][1](source, unit, max_bytes=max_bytes):
        if document.language == "jupyter-notebook" and document.reason is None:
            yield from _convert(document, max_bytes)
        else:
            yield document


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
