"""Token shards: one memory-mapped file of ids, with the end, language, source and size of each document.

They are written in pieces, each of which is whole or absent, and then laid end to end.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import DataError
from ..manifest import write_text

HEADER, TOKENS, INDEX = "shards.json", "tokens.bin", "documents.parquet"
ENCODED_TOGETHER = 256
INDEX_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "language", "source")),
        *((name, pa.int64()) for name in ("bytes", "end")),
    ]
)


class Encoder(Protocol):
    """The part of a tokenizer that packing needs."""

    def __call__(self, text: list[str], **kwargs: Any) -> Any:
        """Encodes texts; `input_ids` of the result are lists of ids."""


@dataclass(frozen=True)
class Header:
    """What the shards are made of.

    Args:
        vocab_size: Entries of the tokenizer; every id is smaller.
        end_of_text: Id that ends a document in a row. It is not stored.
        sentinels: Ids of prefix, middle and suffix for fill-in-the-middle, or `None` where the tokenizer has none.
        tokenizer: Hash of the tokenizer's folder.
        documents: How many.
        tokens: How many.
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
        """Two bytes an id where they suffice, else four."""
        return np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)


def write_shards(documents: Iterable[dict[str, str]], encoder: Encoder, header: Header, folder: Path) -> Header:
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


class TokenShards:
    """Token shards, read where they lie.

    Args:
        folder: What `write_shards` wrote.

    Raises:
        DataError: If it is missing, or the files contradict each other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            values = json.loads((folder / HEADER).read_text(encoding="utf-8"))
            sentinels = values.pop("sentinels")
            self.header = Header(sentinels=tuple(sentinels) if sentinels else None, **values)
            self.tokens: NDArray[Any] = np.memmap(folder / TOKENS, dtype=self.header.dtype, mode="r")
            index = pq.read_table(folder / INDEX)
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowInvalid) as error:
            raise DataError(f"{folder} holds no token shards ({error}); run python -m recipes.pack first") from error
        self.ends: NDArray[np.int64] = index["end"].to_numpy()
        self.languages: list[str] = index["language"].to_pylist()
        self.bytes: NDArray[np.int64] = index["bytes"].to_numpy()
        self.ids: list[str] = index["id"].to_pylist()
        if len(self.tokens) != self.header.tokens or len(self.ends) != self.header.documents:
            raise DataError(
                f"{folder} holds {len(self.tokens)} tokens where its header says {self.header.tokens}; "
                "run python -m recipes.pack again"
            )

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, document: int) -> NDArray[Any]:
        """Ids of a document, shape (T,), in the width they are stored in."""
        return self.tokens[self.ends[document] - self.lengths[document] : self.ends[document]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[document] for document in range(len(self)))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, shape (documents,)."""
        return np.diff(self.ends, prepend=0)

    def count_tokens(self) -> dict[str, int]:
        """Counts tokens by language.

        Returns:
            Tokens, the language with most of them first.
        """
        counts: dict[str, int] = {}
        for language, length in zip(self.languages, self.lengths.tolist(), strict=True):
            counts[language] = counts.get(language, 0) + length
        return dict(sorted(counts.items(), key=lambda item: -item[1]))
