"""Token shards: files of ids in datatrove's form, and columns of what is known of each document, all memory-mapped.

A folder holds, by number, `00000.ds` with the ids of documents, each closed by the end-of-text token; `00000.ds.index`
and `00000.ds.metadata` as datatrove writes them; and `00000.parquet`, a row a document. What training needs of all
documents lies in columns (`lengths.npy` and others), and `shards.json` lists the files with their hashes.
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
from .token_files import SUFFIX, TokenFiles, choose_dtype

HEADER = "shards.json"
FORMAT = 2
DOCUMENTS_SUFFIX = ".parquet"
# Each is COLUMN.npy, shape (documents,).
COLUMNS: Mapping[str, np.dtype[Any]] = MappingProxyType({
    "ends": np.dtype("<i8"),  # in tokens over all files, end-of-text tokens counted
    "lengths": np.dtype("<u4"),  # in tokens, without the end-of-text token
    "bytes": np.dtype("<u4"),  # of its text in UTF-8
    "languages": np.dtype("<u2"),  # place in the header's list
    "checksums": np.dtype("<u4"),  # CRC-32 of its ids as they are stored
})  # fmt: skip
# Reading so many bytes takes less than a second.
CHECKED_WHEN_OPENED = 1 << 28
_COUNTED_TOGETHER = 1 << 20
_CHECKED_TOGETHER = 100_000  # documents that are remembered as checked


@dataclass(frozen=True)
class Header:
    """What the shards are made of.

    Args:
        vocab_size: Entries of the tokenizer; every id is smaller.
        end_of_text: Id that closes each document.
        sentinels: Ids of prefix, middle and suffix for fill-in-the-middle, or `None` where the tokenizer has none.
        tokenizer: Hash of what the tokenizer makes of a text.
        documents: How many.
        tokens: How many, without the end-of-text tokens.
        bytes: How many bytes of text they were.
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
        """Of a stored id."""
        return choose_dtype(self.vocab_size)


@dataclass(frozen=True)
class ShardPart:
    """A token file with the table of its documents.

    Args:
        name: Of the files, without their endings.
        documents: How many.
        tokens: How many, without the end-of-text tokens.
        bytes: How many bytes of text they were.
        hashes: SHA-256 of each file, by its ending.
    """

    name: str
    documents: int
    tokens: int
    bytes: int
    hashes: dict[str, str]


@dataclass(frozen=True)
class Contents:
    """All that `shards.json` says.

    Args:
        header: With the counts of all parts.
        languages: Names, in the order of their codes.
        parts: In the order of their documents.
        hashes: SHA-256 of each column, by its name.
    """

    header: Header
    languages: list[str]
    parts: list[ShardPart]
    hashes: dict[str, str]

    def dump(self) -> str:
        """The text of `shards.json`, with a hash of the rest."""
        values = {"format": FORMAT, **asdict(self)}
        return json.dumps(values | {"hash": hash_values(values)}, indent=1) + "\n"


def read_contents(folder: Path) -> Contents:
    """Reads `shards.json`.

    Raises:
        DataError: If it is missing, of another version, or was changed.
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
        raise DataError(f"{folder} holds no token shards ({error}); run codeshell pack first") from error


class TokenShards:
    """Token shards, memory-mapped: opening takes as long for a hundred million documents as for a hundred.

    Sizes are compared when shards are opened, and up to 256 MB every file with its hash. A document that is read is
    compared with its checksum and the vocabulary. `verify` compares all files with their hashes.

    Args:
        folder: What `pack` wrote for a split.

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

    def __getitem__(self, document: int) -> NDArray[Any]:
        """Ids of a document without its end-of-text token, shape (T,), in the width they are stored in.

        Raises:
            DataError: If they are not those that were packed.
        """
        stop = self._columns["ends"][document] - 1
        start = stop - self._columns["lengths"][document]
        ids = self._files.read(start, stop)
        checksum = self._columns["checksums"][document]
        if zlib.crc32(ids.data) != checksum or (len(ids) and ids.max() >= self.header.vocab_size):
            raise DataError(
                f"document {document} in {self._files.find(start)} is not as it was packed; copy the file again, or "
                "run codeshell pack again"
            )
        return ids

    def read(self, document: int, start: int, stop: int) -> NDArray[Any]:
        """Some ids of a document, shape (stop - start,).

        The document is read whole and checked with its first part; for further parts it is not read again.

        Raises:
            DataError: If they are not those that were packed.
        """
        if document not in self._checked:
            ids = self[document]
            if stop - start < len(ids):
                if len(self._checked) == _CHECKED_TOGETHER:
                    self._checked.clear()
                self._checked.add(document)
            return ids[start:stop]
        first = self._columns["ends"][document] - 1 - self._columns["lengths"][document]
        return self._files.read(first + start, first + stop)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[document] for document in range(len(self)))

    def read_ids(self) -> Iterator[str]:
        """Reads the ids that `curate` gave to documents, a file at a time."""
        for part in self.parts:
            table = pq.read_table(self.folder / f"{part.name}{DOCUMENTS_SUFFIX}", columns=["id"])
            yield from table["id"].to_pylist()

    def count_tokens(self) -> dict[str, int]:
        """Counts tokens by language.

        Returns:
            Tokens, the language with most of them first.
        """
        sums = np.zeros(len(self.languages.names))
        for start in range(0, len(self), _COUNTED_TOGETHER):
            place = slice(start, start + _COUNTED_TOGETHER)
            sums += np.bincount(self._columns["languages"].array[place], self.lengths[place], minlength=len(sums))
        counts = dict(zip(self.languages.names, sums.astype(int).tolist(), strict=True))
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def list_hashes(self) -> dict[str, str]:
        """SHA-256 of all files but the header, by name."""
        hashes = {f"{name}.npy": digest for name, digest in self._contents.hashes.items()}
        for part in self.parts:
            hashes |= {f"{part.name}{suffix}": digest for suffix, digest in part.hashes.items()}
        return hashes

    def verify(self) -> int:
        """Compares all files with their hashes, several at a time.

        Returns:
            How many files there are.

        Raises:
            DataError: If one is not as it was written.
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
                raise self._refuse(path, "is not as it was written")
        return len(paths)

    def _check_sizes(self) -> int:
        """Compares the sizes of token files; returns the bytes of all that is mapped."""
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
                raise self._refuse(path, f"holds {size} bytes where {HEADER} says {expected}")
            sizes += size
        return sizes

    def _open_column(self, name: str) -> Column:
        path = self.folder / f"{name}.npy"
        try:
            column = Column(path)
        except (OSError, ValueError, EOFError) as error:
            raise self._refuse(path, f"cannot be read ({error})") from error
        if column.array.dtype != COLUMNS[name] or column.array.shape != (self.header.documents,):
            raise self._refuse(path, f"holds {column.array.shape} numbers where {HEADER} says {self.header.documents}")
        return column

    @staticmethod
    def _refuse(path: Path, reason: str) -> DataError:
        return DataError(f"{path} {reason}; copy it again, or run codeshell pack again")
