"""Token shards that datatrove's DocumentTokenizer wrote: `.ds` files with an index of where documents end."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..text.shards import Header

SUFFIX = ".ds"
_SCANNED = 1 << 26


class DatatroveShards:
    """datatrove's token shards, memory-mapped; an end-of-text token that closes a document is left out.

    Args:
        folder: Holds `.ds` files, each with its `.ds.index`.
        header: The tokenizer that they were made with: its vocabulary, end of text and sentinels.

    Raises:
        DataError: If a file is missing, contradicts its index, or holds an id beyond the vocabulary.

    Source:
        datatrove 0.10: ids of two or four bytes one after another; in the index, the ends of documents in tokens, eight
        bytes each.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header
        self._files: list[NDArray[np.unsignedinteger]] = []
        ends: list[NDArray[np.int64]] = []
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                tokens, found = self._open(path)
            except (OSError, ValueError, IndexError) as error:
                raise DataError(f"{path} cannot be read ({error}); it needs its .ds.index") from error
            if not len(found) or found[-1] != len(tokens) or (np.diff(found, prepend=0) < 0).any():
                raise DataError(f"{path} holds {len(tokens)} tokens, which its index contradicts; tokenise it again")
            for start in range(0, len(tokens), _SCANNED):
                highest = int(tokens[start : start + _SCANNED].max())
                if highest >= header.vocab_size:
                    raise DataError(
                        f"{path} has token {highest}, but the vocabulary has {header.vocab_size} entries; "
                        "name the tokenizer that it was made with"
                    )
            self._files.append(tokens)
            ends.append(found)
        if not self._files:
            raise DataError(f"{folder} holds no .ds file; name a folder that does")
        starts = [np.concatenate([[0], one[:-1]]) for one in ends]
        self._starts = np.concatenate(starts)
        self._number = np.repeat(np.arange(len(ends)), [len(one) for one in ends])
        sizes = np.concatenate(ends) - self._starts
        is_closed = np.array(
            [
                size > 0 and self._files[number][start + size - 1] == header.end_of_text
                for number, start, size in zip(self._number, self._starts, sizes, strict=True)
            ]
        )
        self.lengths: NDArray[np.int64] = sizes - is_closed
        self.languages = ["unknown"] * len(self.lengths)
        self.bytes = np.zeros(len(self.lengths), np.int64)

    @staticmethod
    def _open(path: Path) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        ends = np.fromfile(path.with_name(path.name + ".index"), dtype="<u8").astype(np.int64)
        width = path.stat().st_size // max(int(ends[-1]), 1)
        if width not in (2, 4):
            raise ValueError(f"an id takes {width} bytes where 2 or 4 are known")
        return np.memmap(path, dtype=np.dtype(f"<u{width}"), mode="r"), ends

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> NDArray[np.unsignedinteger]:
        """Ids of a document, shape (T,), in the width they are stored in."""
        start = self._starts[document]
        tokens: NDArray[np.unsignedinteger] = self._files[self._number[document]]
        return tokens[start : start + self.lengths[document]]
