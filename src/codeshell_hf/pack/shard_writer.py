"""Writes token shards: first parts, each complete or absent, then the columns of all documents."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ..errors import DataError
from ..manifest import hash_file, hash_values, write_text
from ..text.shards import COLUMNS, DOCUMENTS_SUFFIX, HEADER, Contents, Header, ShardPart
from ..text.token_files import INDEX_SUFFIX, METADATA_SUFFIX, SUFFIX
from ..tokenization_codeshell import CodeShellTokenizer

ENCODED_TOGETHER = 256
MAX_DOCUMENT_SIZE = 2**32 - 1  # tokens or bytes
# Keys of tokenizer.json that do not change the ids of a text.
_IGNORED_KEYS = ("version", "padding", "truncation")
_ROWS_TOGETHER = 1 << 13
_DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        *(pa.field(name, pa.dictionary(pa.int32(), pa.string())) for name in ("language", "source")),
        *(pa.field(name, pa.uint32()) for name in ("bytes", "tokens", "checksum")),
    ]
)


class TextDocument(TypedDict):
    """A document to encode."""

    id: str
    language: str
    source: str
    text: str


class EncodedDocument(NamedTuple):
    """A document as ids, with the size of its text in bytes of UTF-8."""

    id: str
    language: str
    source: str
    bytes: int
    ids: Sequence[int] | NDArray[np.integer[Any]]


class Encoder(Protocol):
    """The part of a tokenizer that packing needs."""

    def __call__(
        self, text: list[str], *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, Sequence[Sequence[int] | NDArray[np.integer[Any]]]]:
        """Encodes texts; `input_ids` of the result has the ids of each."""


def make_header(tokenizer: CodeShellTokenizer, folder: Path) -> Header:
    """The header of shards that are encoded with a tokenizer, loaded from a folder; without counts."""
    vocabulary = tokenizer.get_vocab()
    sentinels = tuple(vocabulary.get(f"<fim_{part}>", -1) for part in ("prefix", "middle", "suffix"))
    return Header(
        vocab_size=len(tokenizer),
        end_of_text=tokenizer.eos_token_id,
        sentinels=None if -1 in sentinels else (sentinels[0], sentinels[1], sentinels[2]),
        tokenizer=hash_tokenizer(folder),
    )


def hash_tokenizer(folder: Path) -> str:
    """Hash of a tokenizer.json, without keys that do not change the ids of a text.

    Raises:
        DataError: If it is missing or cannot be read.
    """
    path = folder / "tokenizer.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return hash_values({name: value for name, value in values.items() if name not in _IGNORED_KEYS})
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}); name the folder of a tokenizer") from error


def encode_all(documents: Iterable[TextDocument], encoder: Encoder) -> Iterator[EncodedDocument]:
    """Encodes documents in batches; special tokens in them are encoded as ordinary text."""
    rows = iter(documents)
    while batch := list(islice(rows, ENCODED_TOGETHER)):
        texts = [row["text"] for row in batch]
        encoded = encoder(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        for row, ids in zip(batch, encoded["input_ids"], strict=True):
            yield EncodedDocument(row["id"], row["language"], row["source"], len(row["text"].encode("utf-8")), ids)


class PartWriter:
    """Writes a token file in datatrove's format, the table of its documents, and last a record of both.

    Args:
        stem: Path of the files without suffix.
        header: Header of the shards; its counts are ignored.

    Source:
        datatrove 0.10: the index has document ends in tokens, eight bytes each; the metadata are the tokenizer with the
        bytes per id, the number of tokens, and that number in a readable form.
    """

    def __init__(self, stem: Path, header: Header) -> None:
        self._stem = stem
        self._header = header
        self._end_of_text = np.array([header.end_of_text], header.dtype).tobytes()
        self._columns: dict[str, list[Any]] = {name: [] for name in _DOCUMENTS_SCHEMA.names}
        self._digest = hashlib.sha256()
        _name_record(stem).unlink(missing_ok=True)
        self._file = _add_ending(stem, SUFFIX).open("wb", buffering=1 << 20)

    def add(self, document: EncodedDocument) -> None:
        """Writes a document.

        Raises:
            DataError: If an id does not fit the vocabulary.
        """
        ids = np.asarray(document.ids)
        if len(ids) and int(ids.max()) >= self._header.vocab_size:
            raise DataError(
                f"{document.id} has token {int(ids.max())}, but the vocabulary has {self._header.vocab_size} entries; "
                "pack with the tokenizer that the shards are for"
            )
        if max(len(ids), document.bytes) > MAX_DOCUMENT_SIZE:
            raise DataError(
                f"{document.id} has {len(ids)} tokens; a document may have {MAX_DOCUMENT_SIZE}, so split it"
            )
        stored = ids.astype(self._header.dtype).tobytes()
        for one in (stored, self._end_of_text):
            self._file.write(one)
            self._digest.update(one)
        row = (document.id, document.language, document.source, document.bytes, len(ids), zlib.crc32(stored))
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def close(self) -> ShardPart:
        """Writes the index, the table and the record, which finishes the part."""
        self._file.close()
        lengths = np.array(self._columns["tokens"], np.int64)
        ends = np.cumsum(lengths + 1)
        ends.astype("<u8").tofile(_add_ending(self._stem, INDEX_SUFFIX))
        stored = int(ends[-1]) if len(ends) else 0
        facts = (f"{self._header.tokenizer}|{self._header.dtype.itemsize}", str(stored), f"{stored / 1e6:.2f} MT")
        write_text(_add_ending(self._stem, METADATA_SUFFIX), "\n".join(facts))
        table = pa.table(self._columns, schema=_DOCUMENTS_SCHEMA)
        pq.write_table(table, _add_ending(self._stem, DOCUMENTS_SUFFIX), row_group_size=_ROWS_TOGETHER)
        others = (INDEX_SUFFIX, METADATA_SUFFIX, DOCUMENTS_SUFFIX)
        hashes = {SUFFIX: self._digest.hexdigest()}
        hashes |= {suffix: hash_file(_add_ending(self._stem, suffix)) for suffix in others}
        part = ShardPart(self._stem.name, len(ends), int(lengths.sum()), sum(self._columns["bytes"]), hashes)
        values = asdict(part)
        write_text(_name_record(self._stem), json.dumps(values | {"hash": hash_values(values)}))
        return part


def find_part(stem: Path) -> ShardPart | None:
    """The part that was written there, or `None` if it is incomplete or damaged."""
    try:
        values = json.loads(_name_record(stem).read_text(encoding="utf-8"))
        if values.pop("hash") != hash_values(values):
            return None
        part = ShardPart(**values)
        is_whole = all(hash_file(_add_ending(stem, suffix)) == digest for suffix, digest in part.hashes.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return part if is_whole else None


def has_record(stem: Path) -> bool:
    """Whether a part was once finished."""
    return _name_record(stem).exists()


def write_shards(documents: Iterable[TextDocument], encoder: Encoder, header: Header, folder: Path) -> Header:
    """Encodes documents, as `encode_all` does, and writes them as `write_encoded` does."""
    return write_encoded(encode_all(documents, encoder), header, folder)


def write_encoded(documents: Iterable[EncodedDocument], header: Header, folder: Path) -> Header:
    """Writes documents as shards with a single part.

    Args:
        header: Its counts are ignored.
        folder: Existing folder to write to.

    Returns:
        The header with counts.

    Raises:
        DataError: If an id does not fit the vocabulary.
    """
    writer = PartWriter(folder / name_part(0), header)
    for document in documents:
        writer.add(document)
    return join_parts([writer.close()], header, folder)


def name_part(number: int) -> str:
    """The name of a part, by its number."""
    return f"{number:05d}"


def join_parts(parts: Sequence[ShardPart], header: Header, folder: Path) -> Header:
    """Combines parts into shards, as `write_contents` does, and deletes their records."""
    header = write_contents(parts, header, folder)
    drop_records(parts, folder)
    return header


def write_contents(parts: Sequence[ShardPart], header: Header, folder: Path) -> Header:
    """Combines parts into shards: writes the columns and `shards.json`, and leaves token files and records in place.

    Args:
        parts: Finished parts in `folder`, in the order of documents.
        header: Their common header; its counts are ignored.

    Returns:
        The header with the total counts.
    """
    filled = [part for part in parts if part.documents]
    counts = {name: sum(getattr(part, name) for part in filled) for name in ("documents", "tokens", "bytes")}
    header = replace(header, **counts)
    languages = _write_columns([folder / part.name for part in filled], folder, header.documents)
    hashes = {name: hash_file(folder / f"{name}.npy") for name in COLUMNS}
    write_text(folder / HEADER, Contents(header, languages, filled, hashes).dump())
    return header


def drop_records(parts: Sequence[ShardPart], folder: Path) -> None:
    """Deletes the records of parts, which are only needed to resume, and the files of parts without documents."""
    for part in parts:
        stem = folder / part.name
        _name_record(stem).unlink(missing_ok=True)
        for suffix in () if part.documents else part.hashes:
            _add_ending(stem, suffix).unlink()


def _write_columns(stems: Sequence[Path], folder: Path, documents: int) -> list[str]:
    """Concatenates the columns of parts; returns the names of languages in the order of their codes."""
    columns = {name: _open_column(folder / f"{name}.npy", dtype, documents) for name, dtype in COLUMNS.items()}
    codes: dict[str, int] = {}
    first = end = 0
    for stem in stems:
        table = pq.read_table(
            _add_ending(stem, DOCUMENTS_SUFFIX), columns=["language", "bytes", "tokens", "checksum"]
        ).combine_chunks()
        place = slice(first, first + len(table))
        lengths = table["tokens"].to_numpy()
        languages = table["language"].chunk(0) if len(table) else pa.array([]).dictionary_encode()
        own = [codes.setdefault(name, len(codes)) for name in languages.dictionary.to_pylist()]
        columns["lengths"][place] = lengths
        columns["ends"][place] = end + np.cumsum(lengths.astype(np.int64) + 1)
        columns["bytes"][place] = table["bytes"].to_numpy()
        columns["checksums"][place] = table["checksum"].to_numpy()
        columns["languages"][place] = np.array(own, np.uint16)[languages.indices.to_numpy()]
        first, end = place.stop, int(columns["ends"][place.stop - 1])
    for column in columns.values():
        if isinstance(column, np.memmap):
            column.flush()
    return list(codes)


def _open_column(path: Path, dtype: np.dtype[Any], documents: int) -> NDArray[Any]:
    if documents:
        return open_memmap(path, mode="w+", dtype=dtype, shape=(documents,))
    empty = np.empty(0, dtype)
    np.save(path, empty)
    return empty


def _name_record(stem: Path) -> Path:
    return stem.with_name(f".{stem.name}.json")


def _add_ending(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}{suffix}")
