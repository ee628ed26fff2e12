"""Token shards: one memory-mapped file of ids, with the end, language, source and size of each document."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import DataError

HEADER, TOKENS, INDEX = "shards.json", "tokens.bin", "documents.parquet"
INDEX_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "language", "source")),
        *((name, pa.int64()) for name in ("bytes", "end")),
    ]
)


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
            raise DataError(f"{folder} holds no token shards ({error}); run codeshell pack first") from error
        self.ends: NDArray[np.int64] = index["end"].to_numpy()
        self.languages: list[str] = index["language"].to_pylist()
        self.bytes: NDArray[np.int64] = index["bytes"].to_numpy()
        self.ids: list[str] = index["id"].to_pylist()
        if len(self.tokens) != self.header.tokens or len(self.ends) != self.header.documents:
            raise DataError(
                f"{folder} holds {len(self.tokens)} tokens where its header says {self.header.tokens}; "
                "run codeshell pack again"
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
