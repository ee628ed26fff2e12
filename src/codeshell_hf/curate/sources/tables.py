"""JSON Lines and Parquet with The Stack's column names or any others, local or on the Hub."""

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import IO, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ..languages import find_language, name_language
from ..settings import Column, Source
from .source import Document, Unit, list_files, name_file

# Default names of columns: The Stack, The Stack v2, StarCoderData, and plain names.
COLUMN_NAMES: dict[Column, tuple[str, ...]] = {
    "text": ("content", "text", "code"),
    "path": ("max_stars_repo_path", "path", "file_path", "filename"),
    "language": ("lang", "language", "programming_language"),
    "repository": ("max_stars_repo_name", "repo_name", "repository", "repo"),
    "licence": ("max_stars_repo_licenses", "detected_licenses", "licenses", "license", "licence"),
    "stars": ("max_stars_count", "star_events_count", "stars"),
}
RANGE_BYTES = 32_000_000
JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".json.gz", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst")
PARQUET_SUFFIXES = (".parquet",)
# JSON escapes take up to six characters per byte, and a row has more than its text.
LINE_FACTOR = 6
LINE_MORE = 1_000_000
_BATCH_ROWS = 256
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


def list_json_units(source: Source) -> Iterator[Unit]:
    """Lists JSON Lines: large files as several byte ranges for many cores, compressed files as one unit each."""
    for path in list_files(source, JSON_SUFFIXES):
        size = path.stat().st_size
        key = name_file(source, path)
        if not path.suffix.lower().endswith(("jsonl", "ndjson")):
            yield Unit(source.name, str(path), size, key, licence=source.licence)
            continue
        for start in range(0, max(size, 1), RANGE_BYTES):
            stop = min(start + RANGE_BYTES, size)
            yield Unit(source.name, str(path), stop - start, key, start, stop, licence=source.licence)


def read_json(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the lines that start in a unit's range.

    A line that is not a JSON object has the reason "broken-line", one without text "no-text".
    """
    for place, line, size in read_lines(unit, max_line_bytes=LINE_FACTOR * max_bytes + LINE_MORE):
        key = f"{unit.id}@{place}"
        if place < 0:
            yield Document(f"{unit.id}@", unit.id, reason="corrupt-file")
        elif line is None:
            yield Document(key, unit.id, size=size, reason="too-large")
        elif line.strip():
            row = parse_object(line)
            if row is None:
                yield Document(key, unit.id, size=size, reason="broken-line")
            else:
                yield make_document(row, source, unit, key, max_bytes=max_bytes)


def parse_object(line: bytes) -> dict[str, object] | None:
    """Parses a JSON object; `None` if the line is not one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def read_lines(unit: Unit, *, max_line_bytes: int) -> Iterator[tuple[int, bytes | None, int]]:
    """Reads the lines that start in a range, with at most one line of bounded length in memory.

    Args:
        unit: A file, compressed or not, or a range of it.
        max_line_bytes: Longer lines are skipped.

    Yields:
        The line's offset, the line (`None` if too long) and its size in bytes; (-1, None, 0) if the file is corrupt.
    """
    try:
        with open_file(Path(unit.path)) as file:
            if unit.start:
                # A line belongs to the range that it starts in.
                file.seek(unit.start - 1)
                while (piece := file.readline(max_line_bytes)) and not piece.endswith(b"\n"):
                    pass
            place = file.tell() if unit.stop is not None else 0
            while unit.stop is None or place < unit.stop:
                line = file.readline(max_line_bytes + 1)
                if not line:
                    return
                size = len(line)
                if size > max_line_bytes:
                    while not line.endswith(b"\n") and (line := file.readline(max_line_bytes)):
                        size += len(line)
                    yield place, None, size
                else:
                    yield place, line, size
                place += size
    except BROKEN:
        yield -1, None, 0


def open_file(path: Path) -> IO[bytes]:
    """Opens a file for reading, and decompresses by suffix: `.gz`, `.bz2`, `.xz`, `.zst`."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if suffix == ".bz2":
        return bz2.open(path, "rb")
    if suffix == ".xz":
        return lzma.open(path, "rb")
    if suffix == ".zst":
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def list_parquet_units(source: Source) -> Iterator[Unit]:
    """Lists Parquet files, one unit for each row group; an unreadable file is one unit with a reason.

    Raises:
        DataError: If a file has no column of text.
    """
    for path in list_files(source, PARQUET_SUFFIXES):
        key = name_file(source, path)
        try:
            metadata = pq.read_metadata(path)
            names = pq.read_schema(path).names
        except BROKEN:
            yield Unit(source.name, str(path), path.stat().st_size, key, reason="corrupt-file")
            continue
        require_text(source, names, key)
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).total_byte_size
            yield Unit(source.name, str(path), size, key, group, group + 1, licence=source.licence)


def require_text(source: Source, names: list[str], place: str) -> None:
    """Raises `DataError` if a table has no text column; `place` names the table in the message."""
    if find_column(source.columns, "text", names) is None:
        wanted = source.columns.get("text") or " or ".join(COLUMN_NAMES["text"])
        raise DataError(
            f"{place} has no column {wanted} but {', '.join(names)}; set columns.text of source {source.name}"
        )


def read_parquet(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the rows of row groups; if the file is corrupt, one document has the reason "corrupt-file"."""
    if unit.reason is not None:
        yield Document(f"{unit.id}@", unit.id, size=unit.size, reason=unit.reason)
        return
    try:
        file = pq.ParquetFile(unit.path)
        stop = unit.stop if unit.stop is not None else file.metadata.num_row_groups
        first = sum(file.metadata.row_group(group).num_rows for group in range(unit.start))
        found = (find_column(source.columns, name, file.schema_arrow.names) for name in COLUMN_NAMES)
        columns = [name for name in found if name]
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=list(range(unit.start, stop)), columns=columns):
            for row in batch.to_pylist():
                yield make_document(row, source, unit, f"{unit.id}@{first}", max_bytes=max_bytes)
                first += 1
    except BROKEN:
        yield Document(f"{unit.id}@{unit.start}!", unit.id, reason="corrupt-file")


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
    from dataclasses import replace

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
    text, path = values["text"], str(values["path"] or unit.id)
    licence, stars = values["licence"], values["stars"]
    if isinstance(licence, list):
        # Several licences are joined with AND, since all must be allowed.
        licence = " AND ".join(sorted(map(str, licence))) or None
    facts: _Facts = {
        "language": find_language(values["language"]) or name_language(path),
        "repository": str(values["repository"]) if values["repository"] else None,
        "licence": str(licence) if licence else unit.licence,
        "stars": int(stars) if isinstance(stars, int | float) and stars == stars else None,
    }
    if isinstance(text, bytes):
        content = text
    elif isinstance(text, str):
        content = text.encode("utf-8", errors="surrogatepass")
    else:
        return Document(key, path, reason="no-text", **facts)
    if len(content) > max_bytes:
        return Document(key, path, size=len(content), reason="too-large", **facts)
    return Document(key, path, content, len(content), **facts)
