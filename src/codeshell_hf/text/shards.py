"""Token shards: files of ids in datatrove's format, and columns with the lengths and other values of all documents.

A folder has numbered files: `00000.ds` with the ids of documents, each followed by the end-of-text token;
`00000.ds.index` and `00000.ds.metadata`, as datatrove writes them; and `00000.parquet`, one row per document. Columns
for training are `lengths.npy` and others, and `shards.json` lists all files with their hashes.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import DataError
from ..manifest import hash_file, hash_values
from ..processors import count_usable_cpus
from .columns import Column, Names
from .token_files import SUFFIX, TokenArray, TokenFiles, choose_dtype

HEADER = "shards.json"
FORMAT = 2
DOCUMENTS_SUFFIX = ".parquet"
# Each is COLUMN.npy, shape (documents,).
COLUMNS: Mapping[str, np.dtype[Any]] = MappingProxyType({
    "ends": np.dtype("<i8"),  # in tokens over all files, including end-of-text tokens
    "lengths": np.dtype("<u4"),  # in tokens, without the end-of-text token
    "bytes": np.dtype("<u4"),  # of its text in UTF-8
    "languages": np.dtype("<u2"),  # index into `Contents.languages`
    "checksums": np.dtype("<u4"),  # CRC-32 of its ids as stored
})  # fmt: skip
# Reading this many bytes takes less than a second.
CHECKED_WHEN_OPENED = 1 << 28
_COUNTED_TOGETHER = 1 << 20
_MAX_CHECKED = 100_000  # documents that are remembered as checked


@dataclass(frozen=True)
class Header:
    """The tokenizer and the size of shards.

    Args:
        vocab_size: Entries of the tokenizer; every id is smaller.
        end_of_text: Id after each document.
        sentinels: Ids of prefix, middle and suffix for fill-in-the-middle, or `None` if the tokenizer has none.
        tokenizer: Hash of the tokenizer, from `hash_tokenizer`.
        documents: Number of documents.
        tokens: Number of tokens, without end-of-text tokens.
        bytes: Size of the texts in UTF-8.
    """

    vocab_size: int
    end_of_text: int
    sentinels: tuple[int, int, int] | None
    tokenizer: str
    documents: int = 0
    tokens: int = 0
    bytes: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of stored ids."""
        return choose_dtype(self.vocab_size)


@dataclass(frozen=True)
class ShardPart:
    """A token file with the table of its documents.

    Args:
        name: Name of the files without suffix.
        documents: Number of documents.
        tokens: Number of tokens, without end-of-text tokens.
        bytes: Size of the texts in UTF-8.
        hashes: SHA-256 of each file, by suffix.
    """

    name: str
    documents: int
    tokens: int
    bytes: int
    hashes: dict[str, str]


@dataclass(frozen=True)
class Contents:
    """The content of `shards.json`.

    Args:
        header: The header, with the counts of all parts.
        languages: Names of languages in the order of their codes.
        parts: Parts in the order of documents.
        hashes: SHA-256 of each column, by name.
    """

    header: Header
    languages: list[str]
    parts: list[ShardPart]
    hashes: dict[str, str]

    def dump(self) -> str:
        """The text of `shards.json`, including a hash of its content."""
        values = {"format": FORMAT, **asdict(self)}
        return json.dumps(values | {"hash": hash_values(values)}, indent=1) + "\n"


def read_contents(folder: Path) -> Contents:
    """Reads `shards.json`.

    Raises:
        DataError: If it is missing, has another version, or was changed.
    """
    try:
        values = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        found = values.pop("hash", None)
        if values.get("format") != FORMAT:
            raise DataError(f"{folder} was packed by another version; run codeshell pack again")
        if found != hash_values(values):
            raise DataError(f"{folder / HEADER} was changed after it was written; run codeshell pack again")
        header = values["header"]
        sentinels = header.pop("sentinels")
        return Contents(
            Header(sentinels=tuple(sentinels) if sentinels else None, **header),
            values["languages"],
            [ShardPart(**part) for part in values["parts"]],
            values["hashes"],
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{folder} has no token shards ({error}); run codeshell pack first") from error


class TokenShards:
    """Reads token shards, which are not loaded into memory: a hundred million documents open in a tenth of a second.

    On opening, the sizes of files are checked, and up to 256 MB their hashes. On reading, a document is checked against
    its checksum and the vocabulary. `verify` checks the hashes of all files.

    Args:
        folder: Output of `pack` for a split.

    Raises:
        DataError: If it is missing, or a file is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._contents = read_contents(folder)
        self.header = self._contents.header
        self.parts = self._contents.parts
        bytes_in_all = self._check_sizes()
        self._columns = {name: self._open_column(name) for name in COLUMNS}
        self.ends: NDArray[np.int64] = self._columns["ends"].array
        self.lengths: NDArray[np.uint32] = self._columns["lengths"].array
        self.bytes: NDArray[np.uint32] = self._columns["bytes"].array
        self.languages = Names(self._columns["languages"], self._contents.languages)
        self._files = TokenFiles(
            [folder / f"{part.name}{SUFFIX}" for part in self.parts],
            [part.tokens + part.documents for part in self.parts],
            self.header.dtype,
        )
        self._checked: set[int] = set()
        if bytes_in_all <= CHECKED_WHEN_OPENED:
            self.verify()

    def __len__(self) -> int:
        return self.header.documents

    def __getitem__(self, document: int) -> TokenArray:
        """Ids of a document without its end-of-text token, shape (T,), in the stored dtype.

        Raises:
            DataError: If they were damaged after packing.
        """
        stop = self._columns["ends"][document] - 1
        start = stop - self._columns["lengths"][document]
        ids = self._files.read(start, stop)
        checksum = self._columns["checksums"][document]
        if zlib.crc32(ids.data) != checksum or (len(ids) and ids.max() >= self.header.vocab_size):
            raise DataError(
                f"document {document} in {self._files.find(start)} is damaged; copy the file again, or "
                "run codeshell pack again"
            )
        return ids

    def read(self, document: int, start: int, stop: int) -> TokenArray:
        """Ids `start` to `stop` of a document, shape (stop - start,).

        The first read of a document reads and checks all of it; later reads do not.

        Raises:
            DataError: If the ids were damaged after packing.
        """
        if document not in self._checked:
            ids = self[document]
            if stop - start < len(ids):
                if len(self._checked) == _MAX_CHECKED:
                    self._checked.clear()
                self._checked.add(document)
            return ids[start:stop]
        first = self._columns["ends"][document] - 1 - self._columns["lengths"][document]
        return self._files.read(first + start, first + stop)

    def __iter__(self) -> Iterator[TokenArray]:
        return (self[document] for document in range(len(self)))

    def read_ids(self) -> Iterator[str]:
        """Reads the ids that `curate` gave to documents, one file at a time."""
        for part in self.parts:
            table = pq.read_table(self.folder / f"{part.name}{DOCUMENTS_SUFFIX}", columns=["id"])
            yield from table["id"].to_pylist()

    def count_tokens(self) -> dict[str, int]:
        """Counts tokens by language.

        Returns:
            Tokens by language, the largest first.
        """
        sums = np.zeros(len(self.languages.names))
        for start in range(0, len(self), _COUNTED_TOGETHER):
            place = slice(start, start + _COUNTED_TOGETHER)
            sums += np.bincount(self._columns["languages"].array[place], self.lengths[place], minlength=len(sums))
        counts = dict(zip(self.languages.names, sums.astype(int).tolist(), strict=True))
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def list_hashes(self) -> dict[str, str]:
        """SHA-256 of all files except `shards.json`, by name."""
        hashes = {f"{name}.npy": digest for name, digest in self._contents.hashes.items()}
        for part in self.parts:
            hashes |= {f"{part.name}{suffix}": digest for suffix, digest in part.hashes.items()}
        return hashes

    def verify(self) -> int:
        """Checks the hashes of all files, several at a time.

        Returns:
            Number of files.

        Raises:
            DataError: If one is damaged.
        """
        expected = self.list_hashes()
        paths = [self.folder / name for name in expected]
        try:
            with ThreadPoolExecutor(count_usable_cpus()) as pool:
                found = list(pool.map(hash_file, paths))
        except OSError as error:
            raise self._refuse(Path(str(error.filename)), "cannot be read") from error
        for path, digest in zip(paths, found, strict=True):
            if digest != expected[path.name]:
                raise self._refuse(path, "is damaged")
        return len(paths)

    def _check_sizes(self) -> int:
        """Checks the sizes of token files; returns the total bytes of token files and columns."""
        width = self.header.dtype.itemsize
        sizes = sum(dtype.itemsize for dtype in COLUMNS.values()) * self.header.documents
        for part in self.parts:
            path = self.folder / f"{part.name}{SUFFIX}"
            expected = (part.tokens + part.documents) * width
            try:
                size = path.stat().st_size
            except OSError as error:
                raise self._refuse(path, "is missing") from error
            if size != expected:
                raise self._refuse(path, f"has {size} bytes, but {HEADER} says {expected}")
            sizes += size
        return sizes

    def _open_column(self, name: str) -> Column:
        path = self.folder / f"{name}.npy"
        try:
            column = Column(path)
        except (OSError, ValueError, EOFError) as error:
            raise self._refuse(path, f"cannot be read ({error})") from error
        if column.array.dtype != COLUMNS[name] or column.array.shape != (self.header.documents,):
            raise self._refuse(path, f"has shape {column.array.shape}, but {HEADER} says ({self.header.documents},)")
        return column

    @staticmethod
    def _refuse(path: Path, reason: str) -> DataError:
        return DataError(f"{path} {reason}; copy it again, or run codeshell pack again")
