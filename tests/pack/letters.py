"""Shards of letters: each document's tokens are the code points of its text."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codeshell_hf.pack.shard_writer import TextDocument, write_shards
from codeshell_hf.text.shards import Header, TokenShards

SENTINELS = (301, 302, 303)
END = 300


class Letters:
    """Encodes each character as its code point."""

    def __call__(self, text: list[str], **options: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in document] for document in text]}


def make_shards(folder: Path, texts: list[str], sentinels: tuple[int, int, int] | None = SENTINELS) -> TokenShards:
    """Writes and opens shards of texts."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [
        TextDocument(id=f"d{index}", language="python", source="letters", text=text) for index, text in enumerate(texts)
    ]
    write_shards(documents, Letters(), Header(320, END, sentinels, "hash"), folder)
    return TokenShards(folder)


class Numbered:
    """Documents in memory no two tokens of which are alike: a token's id is its place among all of them.

    The ids above are the end of text and the three sentinels.
    """

    folder = Path("numbered")

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths, np.uint32)
        self.total = sum(lengths)
        end = self.total
        self.header = Header(end + 4, end, (end + 1, end + 2, end + 3), "hash")
        self.languages = ["python"] * len(lengths)
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> NDArray[np.uint32]:
        end = int(self._ends[document])
        return np.arange(end - int(self.lengths[document]), end, dtype=np.uint32)

    def read(self, document: int, start: int, stop: int) -> NDArray[np.uint32]:
        return self[document][start:stop]
