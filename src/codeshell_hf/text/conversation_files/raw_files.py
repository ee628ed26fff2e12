"""Opens data files of any container, compression and encoding, and finds them in folders and on the Hub."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...errors import DataError

HUB_PREFIX = "hub:"
DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".csv", ".tsv")
COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
# Beside the data of repositories and saved datasets, and no data.
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "manifest.json")
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
# How an opening bracket is written without a byte-order mark.
BARE_BRACKETS = {
    b"{\0": "utf-16-le", b"[\0": "utf-16-le", b"\0{": "utf-16-be", b"\0[": "utf-16-be"
}  # fmt: skip


class ByteStream(Protocol):
    """What is read of an open file."""

    def read(self, size: int = -1, /) -> bytes:
        """Reads so many bytes."""

    def readline(self, size: int = -1, /) -> bytes:
        """Reads a line with its end, or so many bytes of it."""


@dataclass(frozen=True)
class FoundFiles:
    """The data files of a place.

    Args:
        files: In the order of reading.
        left_out: Files and splits that are not read, for the report.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


def find_files(place: str | Path) -> FoundFiles:
    """Finds the data files of a file, a folder, a folder saved by `datasets`, or `hub:OWNER/NAME@REVISION[/FILE]`.

    Of a folder with splits, only training data are read.

    Raises:
        DataError: If there is nothing to read, the name has no revision, or the download fails.
    """
    name = str(place)
    if name.startswith(HUB_PREFIX):
        return find_files(_download(name))
    path = Path(place)
    if not path.is_dir():
        return FoundFiles((path,))
    if (path / "dataset_dict.json").exists():
        return _find_split(path)
    if (path / "state.json").exists():
        return FoundFiles(_list_saved(path))
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.name not in DESCRIPTIONS
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and _strip_compression(file.name).endswith(DATA_SUFFIXES)
    ]
    if not found:
        raise DataError(f"{path} has no data file; put one of {', '.join(DATA_SUFFIXES)} into it, or name a file")
    training = [file for file in found if "train" in str(file.relative_to(path)).lower()]
    chosen = training or found
    return FoundFiles(tuple(chosen), tuple(str(file) for file in found if file not in chosen))


def _strip_compression(name: str) -> str:
    lowered = name.lower()
    return next((lowered.removesuffix(end) for end in COMPRESSED_SUFFIXES if lowered.endswith(end)), lowered)


def _find_split(path: Path) -> FoundFiles:
    splits = _read_description(path / "dataset_dict.json").get("splits")
    names = [str(name) for name in splits] if isinstance(splits, list) else []
    if "train" not in names and len(names) != 1:
        raise DataError(f"{path} has splits {', '.join(names) or 'none'} and no train; name the folder of one split")
    chosen = "train" if "train" in names else names[0]
    left_out = tuple(str(path / name) for name in names if name != chosen)
    return FoundFiles(_list_saved(path / chosen), left_out)


def _list_saved(path: Path) -> tuple[Path, ...]:
    listed = _read_description(path / "state.json").get("_data_files")
    names = [str(entry.get("filename")) for entry in listed] if isinstance(listed, list) else []
    if not names:
        raise DataError(f"{path} lists no data files in state.json; save the dataset again with save_to_disk")
    return tuple(path / name for name in names)


def _read_description(path: Path) -> Mapping[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the dataset again with save_to_disk") from error
    return values if isinstance(values, dict) else {}


def _download(name: str) -> Path:
    repository, at, rest = name.removeprefix(HUB_PREFIX).partition("@")
    revision, _, file = rest.partition("/")
    if not at or not revision or repository.count("/") != 1:
        raise DataError(f"{name} has no revision; write hub:OWNER/NAME@REVISION, or with /FILE behind it")
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        if file:
            return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
        patterns = [f"*{suffix}{end}" for suffix in DATA_SUFFIXES for end in ("", *COMPRESSED_SUFFIXES)]
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except Exception as error:  # the Hub's client also raises its transport's errors
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{name} cannot be downloaded ({reason}); check name, revision and file") from error


def open_bytes(path: Path) -> io.BufferedReader:
    """Opens a file, and decompresses it by its first bytes: gzip, Zstandard, bzip2 or xz."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.open(path))
    if magic.startswith(b"BZh"):
        return io.BufferedReader(bz2.open(path))
    if magic == b"\xfd7zXZ\0":
        return io.BufferedReader(lzma.open(path))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    if magic.startswith(b"PK\x03\x04"):
        raise DataError(f"{path} is a ZIP archive; unpack it and name the files in it")
    return path.open("rb")


def decode_stream(stream: io.BufferedReader) -> ByteStream:
    """Skips a byte-order mark, and turns UTF-16 and UTF-32 into UTF-8, with or without a mark."""
    start = stream.peek(4)[:4]
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    encoding = encoding or BARE_BRACKETS.get(start[:2])
    if encoding == "utf-8-sig":
        stream.read(3)
    return stream if encoding in (None, "utf-8-sig") else _Recoded(stream, encoding)


class _Recoded:
    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        self._text = io.TextIOWrapper(stream, encoding, newline="\n")

    def read(self, size: int = -1, /) -> bytes:
        return self._text.read(size).encode("utf-8", "surrogatepass")

    def readline(self, size: int = -1, /) -> bytes:
        return self._text.readline(size).encode("utf-8", "surrogatepass")


def list_columnar(path: Path) -> Iterator[object] | None:
    """The rows of a Parquet or Arrow file as dictionaries; `None` if it is neither."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PAR1"):
        return _read_parquet(path)
    if magic == b"ARROW1" or magic.startswith(b"\xff\xff\xff\xff"):  # Arrow's file, and its stream
        return _read_arrow(path, is_file=magic == b"ARROW1")
    return None


def _read_parquet(path: Path) -> Iterator[object]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is a broken Parquet file ({_shorten(error)}); write or download it again") from error


def _read_arrow(path: Path, *, is_file: bool) -> Iterator[object]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            if is_file:
                reader = pyarrow.ipc.open_file(source)
                batches: Iterator[pyarrow.RecordBatch] = map(reader.get_batch, range(reader.num_record_batches))
            else:
                batches = iter(pyarrow.ipc.open_stream(source))
            for batch in batches:
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is a broken Arrow file ({_shorten(error)}); save it again") from error


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def list_names(files: Sequence[Path]) -> str:
    """Names of files for a message, the first three."""
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(str(file) for file in files[:3]) + more
