"""Writes token shards: in pieces, each of which is whole or absent, and then laid end to end."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..manifest import hash_input, write_text
from ..text.shards import HEADER, INDEX, INDEX_SCHEMA, TOKENS, Header
from ..tokenization_codeshell import CodeShellTokenizer

ENCODED_TOGETHER = 256


class Document(TypedDict):
    """A document to encode."""

    id: str
    language: str
    source: str
    text: str


class EncodedDocument(NamedTuple):
    """A document as ids, with the size in bytes of its text in UTF-8."""

    id: str
    language: str
    source: str
    bytes: int
    ids: Sequence[int]


class Encoder(Protocol):
    """The part of a tokenizer that packing needs."""

    def __call__(
        self, text: list[str], *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[list[int]]]:
        """Encodes texts; `input_ids` of the result are lists of ids."""


def make_header(tokenizer: CodeShellTokenizer, folder: Path) -> Header:
    """The header of shards that are encoded by a tokenizer from a folder, without counts."""
    vocabulary = tokenizer.get_vocab()
    sentinels = tuple(vocabulary.get(f"<fim_{part}>", -1) for part in ("prefix", "middle", "suffix"))
    return Header(
        vocab_size=len(tokenizer),
        end_of_text=tokenizer.eos_token_id,
        sentinels=None if -1 in sentinels else (sentinels[0], sentinels[1], sentinels[2]),
        tokenizer=hash_input(folder),
    )


def encode_all(documents: Iterable[Document], encoder: Encoder) -> Iterator[EncodedDocument]:
    """Encodes documents, in which special tokens are plain text, many at a time."""
    rows = iter(documents)
    while batch := list(islice(rows, ENCODED_TOGETHER)):
        texts = [row["text"] for row in batch]
        encoded = encoder(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        for row, ids in zip(batch, encoded["input_ids"], strict=True):
            yield EncodedDocument(row["id"], row["language"], row["source"], len(row["text"].encode("utf-8")), ids)


def write_shards(documents: Iterable[Document], encoder: Encoder, header: Header, folder: Path) -> Header:
    """Encodes documents, as `encode_all` does, and writes them as `write_encoded` does."""
    return write_encoded(encode_all(documents, encoder), header, folder)


def write_encoded(documents: Iterable[EncodedDocument], header: Header, folder: Path) -> Header:
    """Writes documents.

    Args:
        header: Its counts are not read.
        folder: Where to write; it must exist.

    Returns:
        The header with its counts.

    Raises:
        DataError: If an id does not fit the vocabulary.
    """
    ids_of: list[str] = []
    languages: list[str] = []
    sources: list[str] = []
    sizes: list[int] = []
    ends: list[int] = []
    end = 0
    with (folder / TOKENS).open("wb") as file:
        for row in documents:
            ids = row.ids
            if len(ids) and max(ids) >= header.vocab_size:
                raise DataError(
                    f"{row.id} has token {max(ids)}, but the vocabulary has {header.vocab_size} entries; "
                    "pack with the tokenizer that the shards are for"
                )
            file.write(np.asarray(ids, dtype=header.dtype).tobytes())
            end += len(ids)
            ids_of.append(row.id)
            languages.append(row.language)
            sources.append(row.source)
            sizes.append(row.bytes)
            ends.append(end)
    index = {"id": ids_of, "language": languages, "source": sources, "bytes": sizes, "end": ends}
    pq.write_table(pa.table(index, schema=INDEX_SCHEMA), folder / INDEX)
    counted = replace(header, documents=len(ends), tokens=end, bytes=sum(sizes))
    write_text(folder / HEADER, json.dumps(asdict(counted), indent=1) + "\n")
    return counted


def join_shards(pieces: Sequence[Path], folder: Path) -> Header:
    """Lays pieces end to end, and removes them.

    Args:
        pieces: Folders that `write_shards` wrote, of one tokenizer, in order.
        folder: Where to write; it must exist.

    Returns:
        The header, with the counts of all.

    Raises:
        DataError: If no document has a token.
    """
    headers = [json.loads((piece / HEADER).read_text(encoding="utf-8")) for piece in pieces]
    counts = {name: sum(header[name] for header in headers) for name in ("documents", "tokens", "bytes")}
    if not counts["tokens"]:
        raise DataError(f"no document has a token, so {folder} would be empty; curate other sources")
    end = 0
    with (folder / TOKENS).open("wb") as file, pq.ParquetWriter(folder / INDEX, INDEX_SCHEMA) as writer:
        for piece, header in zip(pieces, headers, strict=True):
            with (piece / TOKENS).open("rb") as one:
                shutil.copyfileobj(one, file, 1 << 22)
            table = pq.read_table(piece / INDEX)
            ends = pa.array(table["end"].to_numpy() + end)
            writer.write_table(table.set_column(table.schema.get_field_index("end"), "end", ends))
            end += header["tokens"]
    values = headers[0] | counts
    write_text(folder / HEADER, json.dumps(values, indent=1) + "\n")
    for piece in pieces:
        shutil.rmtree(piece)
    return Header(**values | {"sentinels": tuple(values["sentinels"]) if values["sentinels"] else None})
