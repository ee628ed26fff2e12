"""Writes token shards: in pieces, each of which is whole or absent, and then laid end to end."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..manifest import write_text
from ..text.shards import HEADER, INDEX, INDEX_SCHEMA, TOKENS, Header

ENCODED_TOGETHER = 256


class Document(TypedDict):
    """A document to encode."""

    id: str
    language: str
    source: str
    text: str


class Encoder(Protocol):
    """The part of a tokenizer that packing needs."""

    def __call__(self, text: list[str], **kwargs: Any) -> Any:
        """Encodes texts; `input_ids` of the result are lists of ids."""


def write_shards(documents: Iterable[Document], encoder: Encoder, header: Header, folder: Path) -> Header:
    """Encodes documents, in which nothing is special, and writes them.

    Args:
        documents: Each with `id`, `language`, `source` and `text`.
        encoder: The tokenizer.
        header: What is known before.
        folder: Where to write; it must exist.

    Returns:
        The header with its counts.

    Raises:
        DataError: If an id does not fit the vocabulary.
    """
    index: dict[str, list[Any]] = {"id": [], "language": [], "source": [], "bytes": [], "end": []}
    end = 0
    with (folder / TOKENS).open("wb") as file:
        rows = iter(documents)
        while batch := list(islice(rows, ENCODED_TOGETHER)):
            texts = [row["text"] for row in batch]
            encoded = encoder(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
            for row, ids in zip(batch, encoded["input_ids"], strict=True):
                if ids and max(ids) >= header.vocab_size:
                    raise DataError(
                        f"{row['id']} has token {max(ids)}, but the vocabulary has {header.vocab_size} entries; "
                        "pack with the tokenizer that the shards are for"
                    )
                file.write(np.asarray(ids, dtype=header.dtype).tobytes())
                end += len(ids)
                index["id"].append(row["id"])
                index["language"].append(row["language"])
                index["source"].append(row["source"])
                index["bytes"].append(len(row["text"].encode("utf-8")))
                index["end"].append(end)
    pq.write_table(pa.table(index, schema=INDEX_SCHEMA), folder / INDEX)
    counted = Header(**{**asdict(header), "documents": len(index["id"]), "tokens": end, "bytes": sum(index["bytes"])})
    write_text(folder / HEADER, json.dumps(asdict(counted), indent=1) + "\n")
    return counted


def join_shards(pieces: Sequence[Path], folder: Path) -> Header:
    """Lays pieces end to end, and removes them.

    Args:
        pieces: Folders that `write_shards` wrote, of one tokenizer, in order.
        folder: Where to write; it must exist.

    Returns:
        The header of all.

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
