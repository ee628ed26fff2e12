"""Token shards that datatrove's DocumentTokenizer wrote: `.ds` files with an index of where documents end."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..text.columns import Names
from ..text.shards import CHECKED_WHEN_OPENED, Header
from ..text.token_files import INDEX_SUFFIX, SUFFIX, TokenFiles

# Of a file that is not read whole, so many documents tell whether all are closed by the end-of-text token.
COMPARED_DOCUMENTS = 1000


class DatatroveShards:
    """datatrove's token shards, memory-mapped; end-of-text tokens that close documents are left out.

    Ends and lengths are kept in memory, twelve bytes a document. Files of up to 256 MB are read whole when they are
    opened; of larger ones, each document is checked when it is read.

    Args:
        folder: Holds `.ds` files, each with its `.ds.index`.
        header: The tokenizer that they were made with: its vocabulary, end of text and sentinels.

    Raises:
        DataError: If a file is missing, contradicts its index, or holds an id beyond the vocabulary, or if a larger one
            closes some documents and others not.

    Source:
        datatrove 0.10: ids of two or four bytes one after another; in the index, the ends of documents in tokens, eight
        bytes each.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header
        paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stat().st_size)
        if not paths:
            raise DataError(f"{folder} holds no .ds file; name a folder that does")
        opened = [_read_ends(path) for path in paths]
        widths = {width for _, width in opened}
        if len(widths) > 1:
            raise DataError(f"{folder} holds ids of two and of four bytes; tokenise it again with one tokenizer")
        self._files = TokenFiles(paths, [int(ends[-1]) for ends, _ in opened], np.dtype(f"<u{widths.pop()}"))
        all_ends: list[NDArray[np.int64]] = []
        lengths = []
        first = 0
        for path, (ends, _) in zip(paths, opened, strict=True):
            sizes = np.diff(ends, prepend=0)
            all_ends.append(first + ends)
            lengths.append((sizes - self._find_closed(path, all_ends[-1], sizes)).astype(np.uint32))
            first = int(all_ends[-1][-1])
        self.lengths: NDArray[np.uint32] = np.concatenate(lengths)
        self.ends: NDArray[np.int64] = np.concatenate(all_ends)
        self.languages = Names(np.broadcast_to(np.zeros(1, np.uint16), len(self.ends)), ["unknown"])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> NDArray[Any]:
        """Ids of a document, shape (T,), in the width they are stored in.

        Raises:
            DataError: If one is beyond the vocabulary, or the document is not closed as others are.
        """
        start = int(self.ends[document - 1]) if document else 0
        ids = self._files.read(start, int(self.ends[document]))
        length = int(self.lengths[document])
        self._check_vocabulary(ids, start)
        if length < len(ids) and ids[-1] != self.header.end_of_text:
            raise self._refuse_ends(self._files.find(start))
        return ids[:length]

    def _find_closed(self, path: Path, ends: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Finds the documents of a file that an end-of-text token closes, shape (documents,).

        Args:
            path: Of the file.
            ends: Of its documents, counted over all files.
            sizes: Of its documents, in stored tokens.
        """
        end_of_text = self.header.end_of_text
        if path.stat().st_size <= CHECKED_WHEN_OPENED:
            start = int(ends[0] - sizes[0])
            ids = self._files.read(start, int(ends[-1]))
            self._check_vocabulary(ids, start)
            is_closed: NDArray[np.bool_] = (sizes > 0) & (ids[ends - start - 1] == end_of_text)
            return is_closed
        filled = ends[sizes > 0]
        last = filled[:: max(1, len(filled) // COMPARED_DOCUMENTS)] - 1
        closed = sum(int(self._files.read(place, place + 1)[0]) == end_of_text for place in last.tolist())
        if closed not in (0, len(last)):
            raise self._refuse_ends(path)
        return (sizes > 0) & (closed > 0)

    def _check_vocabulary(self, ids: NDArray[Any], start: int) -> None:
        highest = int(ids.max()) if len(ids) else 0
        if highest >= self.header.vocab_size:
            raise DataError(
                f"{self._files.find(start)} has token {highest}, but the vocabulary has {self.header.vocab_size} "
                "entries; name the tokenizer that it was made with"
            )

    def _refuse_ends(self, path: Path) -> DataError:
        return DataError(
            f"{path} closes some documents with token {self.header.end_of_text} and others not; tokenise it again with "
            "one eos_token"
        )


def _read_ends(path: Path) -> tuple[NDArray[np.int64], int]:
    """Ends of a file's documents, in tokens, and the bytes of an id."""
    size = path.stat().st_size
    try:
        ends = np.fromfile(path.with_name(path.name + INDEX_SUFFIX.removeprefix(SUFFIX)), dtype="<u8").astype(np.int64)
        tokens = int(ends[-1])
        width = size // tokens
        if width not in (2, 4):
            raise ValueError(f"an id takes {width} bytes where 2 or 4 are known")
    except (OSError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(f"{path} cannot be read ({error}); it needs its .ds.index") from error
    if tokens * width != size or (np.diff(ends, prepend=0) < 0).any():
        raise DataError(f"{path} holds {size} bytes, which its index contradicts; tokenise it again")
    return ends, width
