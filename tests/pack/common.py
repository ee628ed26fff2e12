"""Shards of letters: each document's tokens are the code points of its text."""

from pathlib import Path

from codeshell_hf.pack.shards import Document, write_shards
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
        Document(id=f"d{index}", language="python", source="letters", text=text) for index, text in enumerate(texts)
    ]
    write_shards(documents, Letters(), Header(320, END, sentinels, "hash"), folder)
    return TokenShards(folder)
