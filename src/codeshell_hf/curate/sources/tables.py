"""JSON Lines and Parquet with The Stack's column names or any others, local or on the Hub."""

import bz2
import gzip
import json
import lzma
import os
import zlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ..languages import find_language, name_language
from ..settings import Column, Source
from .bounds import BombFound, UnpackedBytes, meter
from .cleaning import clean_number
from .history import open_regular
from .source import Document, Unit, list_whole_files

# Default names of columns: The Stack, The Stack v2, StarCoderData, and plain names.
COLUMN_NAMES: dict[Column, tuple[str, ...]] = {
    "text": ("content", "text", "code"),
    "path": ("max_stars_repo_path", "path", "file_path", "filename"),
    "language": ("lang", "language", "programming_language"),
    "repository": ("max_stars_repo_name", "repo_name", "repository", "repo"),
    "licence": ("max_stars_repo_licenses", "detected_licenses", "licenses", "license", "licence"),
    "stars": ("max_stars_count", "star_events_count", "stars"),
}
# Folders of StarCoder's data set that are not languages.
CORPORA = {
    "git-commits-cleaned": "git-commits",
    "github-issues-filtered-structured": "github-issues",
    "jupyter-scripts-dedup-filtered": "jupyter-scripts",
    "jupyter-structured-clean-dedup": "jupyter-structured",
}
RANGE_BYTES = 32_000_000
JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".json.gz", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst")
PARQUET_SUFFIXES = (".parquet",)
# JSON escapes take up to six characters per byte, and a row has more than its text.
LINE_FACTOR = 6
LINE_MORE = 1_000_000
_BATCH_ROWS = 256
_MAX_DIGITS = 20  # of an integer of 64 bits, with its sign
_ROW_BYTES = 16  # what a row counts at least, for tables of endless empty rows
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
# A damaged schema or statistics become errors of many kinds.
BROKEN_PARQUET = (*BROKEN, ValueError, TypeError, KeyError, IndexError, OverflowError)


def list_json_units(source: Source) -> Iterator[Unit]:
    """Lists JSON Lines: large files as several byte ranges for many cores, compressed files as one unit each."""
    for unit in list_whole_files(source, JSON_SUFFIXES):
        path, size = Path(unit.path), unit.size
        if unit.reason is not None or not path.suffix.lower().endswith(("jsonl", "ndjson")):
            yield unit
            continue
        for start in range(0, max(size, 1), RANGE_BYTES):
            stop = min(start + RANGE_BYTES, size)
            yield replace(unit, size=stop - start, start=start, stop=stop)


def read_json(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the lines that start in a unit's range.

    A line that is not a JSON object has the reason "broken-line", one without text "no-text".
    """
    for place, line, size in read_lines(unit, max_line_bytes=LINE_FACTOR * max_bytes + LINE_MORE):
        key = f"{unit.id}@{place}"
        if isinstance(line, str):
            yield Document(key, unit.id, size=size, reason=line)
        elif line.strip():
            row = parse_object(line)
            if row is None:
                yield Document(key, unit.id, size=size, reason="broken-line")
            else:
                yield make_document(row, source, unit, key, max_bytes=max_bytes)


def parse_object(line: bytes) -> dict[str, object] | None:
    """Parses a JSON object; `None` if the line is not one."""
    try:
        # Bytes would be taken for UTF-16 by their zeros, line by line.
        row = json.loads(line.decode("utf-8-sig"), parse_int=_parse_integer)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _parse_integer(digits: str) -> int | None:
    """An integer; `None` for one that no column holds, and that would take long."""
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def read_lines(unit: Unit, *, max_line_bytes: int) -> Iterator[tuple[int, bytes | str, int]]:
    """Reads the lines that start in a range, with at most one line of bounded length in memory.

    Args:
        unit: A file, compressed or not, or a range of it.
        max_line_bytes: Longer lines are skipped.

    Yields:
        The line's offset, the line or the reason that there is none, and its size in bytes. The reasons are
        "too-large", and, at most once and last, the unit's own, "corrupt-file" or "archive-bomb", with the bytes of the
        file or range that were not read.
    """
    if unit.reason is not None:
        yield 0, unit.reason, unit.size
        return
    place = unit.start
    try:
        with open_file(Path(unit.path)) as file:
            if unit.start:
                # A line belongs to the range that it starts in.
                file.seek(unit.start - 1)
                while (piece := file.readline(max_line_bytes)) and not piece.endswith(b"\n"):
                    pass
                place = file.tell()
            while unit.stop is None or place < unit.stop:
                line = file.readline(max_line_bytes + 1)
                if not line:
                    return
                size = len(line)
                if size > max_line_bytes:
                    while not line.endswith(b"\n") and (line := file.readline(max_line_bytes)):
                        size += len(line)
                    yield place, "too-large", size
                else:
                    yield place, line, size
                place += size
    except BombFound:
        yield place, "archive-bomb", unit.size
    except BROKEN:
        yield place, "corrupt-file", max(unit.size - (place - unit.start), 0) if unit.stop is not None else unit.size


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file for reading, and decompresses by suffix: `.gz`, `.bz2`, `.xz`, `.zst`.

    Reading raises `BombFound` once a compressed file has unpacked to far more than its size.

    Raises:
        OSError: If it is not a regular file, or cannot be read.
    """
    file = open_regular(path)
    budget = UnpackedBytes(os.fstat(file.fileno()).st_size)
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return meter(gzip.GzipFile(fileobj=file), budget, file)
    if suffix == ".bz2":
        return meter(bz2.open(file), budget, file)
    if suffix == ".xz":
        return meter(lzma.open(file), budget, file)
    if suffix == ".zst":
        return meter(pa.CompressedInputStream(file, "zstd"), budget, file)
    return file


def list_parquet_units(source: Source) -> Iterator[Unit]:
    """Lists Parquet files, one unit for each row group; a file that cannot be used is one unit with a reason.

    Raises:
        DataError: If no file has a column of text.
    """
    without: tuple[list[str], str] | None = None
    has_text = False
    for unit in list_whole_files(source, PARQUET_SUFFIXES):
        if unit.reason is not None:
            yield unit
            continue
        try:
            with open_regular(unit.path) as opened, pq.ParquetFile(opened) as file:
                metadata, names = file.metadata, file.schema_arrow.names
            sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
        except BROKEN_PARQUET:
            yield replace(unit, reason="corrupt-file")
            continue
        if find_column(source.columns, "text", names) is None:
            without = without or (names, unit.id)
            yield replace(unit, reason="no-text")
            continue
        has_text = True
        for group, size in enumerate(sizes):
            yield replace(unit, size=max(size, 0), start=group, stop=group + 1)
    if without is not None and not has_text:
        require_text(source, *without)


def require_text(source: Source, names: list[str], place: str) -> None:
    """Raises `DataError` if a table has no text column; `place` names the table in the message."""
    if find_column(source.columns, "text", names) is None:
        wanted = source.columns.get("text") or " or ".join(COLUMN_NAMES["text"])
        raise DataError(
            f"{place} has no column {wanted} but {', '.join(names)}; set columns.text of source {source.name}"
        )


def read_parquet(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the rows of row groups; from a corrupt one on, one document has the reason "corrupt-file"."""
    if unit.reason is not None:
        yield Document(f"{unit.id}@", unit.id, size=unit.size, reason=unit.reason)
        return
    budget = None
    try:
        with open_regular(unit.path) as opened, pq.ParquetFile(opened) as file:
            budget = UnpackedBytes(os.fstat(opened.fileno()).st_size)
            stop = unit.stop if unit.stop is not None else file.metadata.num_row_groups
            first = sum(file.metadata.row_group(group).num_rows for group in range(unit.start))
            found = (find_column(source.columns, name, file.schema_arrow.names) for name in COLUMN_NAMES)
            columns = [name for name in found if name]
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=list(range(unit.start, stop)), columns=columns):
                for row in _list_rows(batch):
                    document = make_document(row, source, unit, f"{unit.id}@{first}", max_bytes=max_bytes)
                    budget.spend(document.size + _ROW_BYTES)
                    yield document
                    first += 1
    except BombFound:
        yield Document(f"{unit.id}@{unit.start}!", unit.id, size=unit.size, reason="archive-bomb")
    except BROKEN_PARQUET:
        yield Document(f"{unit.id}@{unit.start}!", unit.id, size=unit.size, reason="corrupt-file")


def _list_rows(batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    """The rows of a batch; text that is not UTF-8 stays bytes, and a value that has no form in Python is `None`."""
    columns = [(name, _list_values(batch.column(place))) for place, name in enumerate(batch.schema.names)]
    for values in zip(*(values for _, values in columns), strict=True):
        row: dict[str, object] = {}
        for (name, _), value in zip(columns, values, strict=True):
            row.setdefault(name, value)
        yield row


def _list_values(column: pa.Array) -> list[object]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    raw = _as_bytes(column.type)
    if raw is not None:
        return [_decode(value) for value in column.cast(raw).to_pylist()]
    try:
        return list(column.to_pylist())
    except (ValueError, TypeError, ArithmeticError, pa.ArrowException):
        return [_take(value) for value in column]


def _as_bytes(kind: pa.DataType) -> pa.DataType | None:
    """The type with bytes instead of text; `None` if it is neither text nor a list of it."""
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _as_bytes(kind.value_type)
        return None if inner is None else pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
    return None


def _decode(value: object) -> object:
    if isinstance(value, list):
        return [_decode(inner) for inner in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _take(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except (ValueError, TypeError, ArithmeticError, pa.ArrowException):
        return None


def list_hub_units(source: Source) -> Iterator[Unit]:
    """Lists the tables of a data set on the Hub, at one commit.

    Args:
        source: Its path is `owner/name`, optionally with `@revision`, `/folder`, and `hf://datasets/` before it.

    Raises:
        DataError: If the data set cannot be listed, or has no table.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    owner, name, *folder = source.path.removeprefix("hf://").removeprefix("datasets/").split("/")
    name, _, revision = name.partition("@")
    repository = f"{owner}/{name}"
    api = HfApi()
    try:
        commit = api.dataset_info(repository, revision=revision or None).sha
        tree = api.list_repo_tree(
            repository, "/".join(folder) or None, recursive=True, revision=commit, repo_type="dataset"
        )
        files = sorted((entry.path, entry.size) for entry in tree if hasattr(entry, "size"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"source {source.name} is {source.path}, which the Hub does not list ({reason})") from error
    tables = [(path, size) for path, size in files if path.lower().endswith((*PARQUET_SUFFIXES, *JSON_SUFFIXES))]
    if not tables:
        raise DataError(f"source {source.name} is {source.path}, which has no Parquet or JSON Lines")
    for path, size in tables:
        place = f"hf://datasets/{repository}@{commit}/{path}"
        yield Unit(source.name, place, size, f"{source.name}/{path}", licence=source.licence)


def read_hub(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Downloads a file into the Hub's cache and reads it; if that fails, one document has the reason "unreadable".

    Raises:
        DataError: If a Parquet file has no column of text.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    owner, name, path = unit.path.removeprefix("hf://datasets/").split("/", 2)
    name, _, commit = name.partition("@")
    try:
        local = hf_hub_download(f"{owner}/{name}", path, revision=commit, repo_type="dataset")
    except (HfHubHTTPError, OSError):
        yield Document(f"{unit.id}@", unit.id, size=unit.size, reason="unreadable")
        return
    here = replace(unit, path=local)
    if not path.lower().endswith(PARQUET_SUFFIXES):
        yield from read_json(source, here, max_bytes=max_bytes)
        return
    try:
        require_text(source, pq.read_schema(local).names, unit.id)
    except BROKEN:
        here = replace(here, reason="corrupt-file")
    yield from read_parquet(source, here, max_bytes=max_bytes)


def find_column(named: Mapping[Column, str], field: Column, columns: Container[str]) -> str | None:
    """Finds the column of a field in a table; the settings' names (`named`) take precedence over the defaults."""
    candidates = (named[field],) if field in named else COLUMN_NAMES[field]
    return next((name for name in candidates if name in columns), None)


class _Facts(TypedDict):
    language: str | None
    repository: str | None
    licence: str | None
    stars: int | None


def make_document(row: Mapping[str, object], source: Source, unit: Unit, key: str, *, max_bytes: int) -> Document:
    """Makes a document from a row; without text it has the reason "no-text"."""
    values = {
        field: row.get(column) if (column := find_column(source.columns, field, row)) else None
        for field in COLUMN_NAMES
    }
    text, path = values["text"], _to_text(values["path"])
    licence = values["licence"]
    if isinstance(licence, list):
        # Several licences are joined with AND, since all must be allowed.
        licence = " AND ".join(sorted(name for one in licence if (name := _to_text(one))))
    facts: _Facts = {
        "language": source.language or find_language(values["language"]) or _find_language(path, unit),
        "repository": _to_text(values["repository"]),
        "licence": _to_text(licence) or unit.licence,
        "stars": clean_number(values["stars"]),
    }
    if isinstance(text, bytes):
        content = text
    elif isinstance(text, str):
        content = text.encode("utf-8", errors="surrogatepass")
    else:
        return Document(key, path or unit.id, reason="no-text", **facts)
    if len(content) > max_bytes:
        return Document(key, path or unit.id, size=len(content), reason="too-large", **facts)
    return Document(key, path or unit.id, content, len(content), **facts)


def _find_language(path: str | None, unit: Unit) -> str | None:
    """A row's language by its corpus, its own path, or the folder of its table, as in `data/python/0.parquet`."""
    folders = unit.id.split("/")[1:-1]
    corpus = next((CORPORA[name] for name in folders if name in CORPORA), None)
    named = name_language(path) if path else None
    return corpus or named or next((name for folder in reversed(folders) if (name := find_language(folder))), None)


def _to_text(value: object) -> str | None:
    """A name or path; `None` if it is empty, or neither text nor a number."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and value else None
