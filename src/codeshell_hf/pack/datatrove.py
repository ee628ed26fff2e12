"""Token shards written by datatrove's DocumentTokenizer: `.ds` files with an index of document ends."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..text.columns import Names
from ..text.shards import CHECKED_WHEN_OPENED, Header
from ..text.token_files import INDEX_SUFFIX, SUFFIX, TokenArray, TokenFiles

# In a file that is not read whole, this many documents decide whether all end with the end-of-text token.
COMPARED_DOCUMENTS = 1000
READ_TOGETHER = 1 << 20
CHUNK_DOCUMENTS = 1024


class Index:
    """Document ends of several files, read on demand and not kept in memory.

    Args:
        paths: The token files, none of them empty.
        counts: Documents per file.
        tokens: Stored tokens per file.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int], tokens: Sequence[int]) -> None:
        self._files = TokenFiles([_name_index(path) for path in paths], counts, np.dtype("<u8"))
        self._firsts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._tokens = np.concatenate([[0], np.cumsum(tokens, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def read(self, document: int, stop: int) -> Iterator[tuple[int, slice, NDArray[np.int64]]]:
        """Reads document boundaries, one file at a time.

        Args:
            document: The first document.
            stop: The one after the last.

        Returns:
            The number of the file, which of its documents, and their boundaries in tokens over all files, one more
            than documents.
        """
        while document < stop:
            file = int(np.searchsorted(self._firsts, document, side="right")) - 1
            first, last = int(self._firsts[file]), min(stop, int(self._firsts[file + 1]))
            before = max(document - 1, first)
            borders = self._files.read(before, last).astype(np.int64) + self._tokens[file]
            if document == first:
                borders = np.concatenate([self._tokens[file : file + 1], borders])
            yield file, slice(document - first, last - first), borders
            document = last


class StoredLengths:
    """Lengths of documents in tokens, without a closing end of text; indexed by a slice or an array of documents.

    Args:
        index: The document ends of all files.
        closed: For each file, which documents end with the end-of-text token if they are not empty, shape (documents,).
    """

    def __init__(self, index: Index, closed: Sequence[NDArray[np.bool_]]) -> None:
        self._index = index
        self._closed = closed

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, documents: slice | NDArray[np.int64], /) -> NDArray[np.uint32]:
        if isinstance(documents, slice):
            start, stop, step = documents.indices(len(self))
            return self._read(start, stop)[::step]
        chunks, places = np.unique(documents // CHUNK_DOCUMENTS, return_inverse=True)
        starts = (chunks * CHUNK_DOCUMENTS).tolist()
        read = [self._read(start, min(start + CHUNK_DOCUMENTS, len(self))) for start in starts]
        # All chunks are full except the very last.
        lengths = np.concatenate([*read, np.empty(0, np.uint32)])
        found: NDArray[np.uint32] = lengths[places * CHUNK_DOCUMENTS + documents % CHUNK_DOCUMENTS]
        return found

    def _read(self, start: int, stop: int) -> NDArray[np.uint32]:
        found = [np.empty(0, np.uint32)]
        for file, place, borders in self._index.read(start, stop):
            sizes = np.diff(borders)
            found.append((sizes - ((sizes > 0) & self._closed[file][place])).astype(np.uint32))
        return np.concatenate(found)


class DatatroveShards:
    """datatrove's token shards; documents are read without their closing end-of-text token.

    Document ends are read from the index on demand. Files of up to 256 MB are checked when they are opened, and
    documents of larger ones when they are read.

    Args:
        folder: Has `.ds` files, each with its `.ds.index`.
        header: Describes the tokenizer that they were made with: its vocabulary, end of text and sentinels.

    Raises:
        DataError: If a file is missing, contradicts its index, or has an id beyond the vocabulary; or if only some of
            the documents in a larger file end with the end-of-text token.

    Source:
        datatrove 0.10: consecutive ids of two or four bytes; in the index, document ends in tokens, eight bytes each.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header
        paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stat().st_size)
        if not paths:
            raise DataError(f"{folder} holds no .ds file; name a folder that does")
        opened = [_check_index(path) for path in paths]
        widths = {width for _, _, width in opened}
        if len(widths) > 1:
            raise DataError(f"{folder} holds ids of two and of four bytes; tokenise it again with one tokenizer")
        counts, tokens = [count for count, _, _ in opened], [stored for _, stored, _ in opened]
        self._files = TokenFiles(paths, tokens, np.dtype(f"<u{widths.pop()}"))
        self._index = Index(paths, counts, tokens)
        first, closed = 0, []
        for path, count in zip(paths, counts, strict=True):
            closed.append(self._find_closed(path, first, first + count))
            first += count
        self.lengths = StoredLengths(self._index, closed)
        self.languages = Names(np.broadcast_to(np.zeros(1, np.uint16), len(self.lengths)), ["unknown"])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> TokenArray:
        """Ids of a document, shape (T,), in the stored dtype.

        Raises:
            DataError: If an id is beyond the vocabulary, or only this document lacks its end-of-text token.
        """
        document = range(len(self))[document]
        ((_, _, borders),) = self._index.read(document, document + 1)
        start, stop = borders.tolist()
        ids = self._files.read(start, stop)
        length = int(self.lengths[document : document + 1][0])
        self._check_vocabulary(ids, start)
        if length < len(ids) and ids[-1] != self.header.end_of_text:
            raise self._refuse_ends(self._files.find(start))
        return ids[:length]

    def read(self, document: int, start: int, stop: int) -> TokenArray:
        """Ids `start` to `stop` of a document, shape (stop - start,).

        To the end of the document, it is read and checked as a whole.

        Raises:
            DataError: As for a whole document.
        """
        if stop >= int(self.lengths[document : document + 1][0]):
            return self[document][start:stop]
        ((_, _, borders),) = self._index.read(document, document + 1)
        first = int(borders[0])
        ids = self._files.read(first + start, first + stop)
        self._check_vocabulary(ids, first)
        return ids

    def _find_closed(self, path: Path, first: int, stop: int) -> NDArray[np.bool_]:
        """Finds the documents of a file that end with the end-of-text token if they are not empty, shape (documents,).

        Args:
            path: The file.
            first: Its first document, counted over all files.
            stop: The one after its last.
        """
        end_of_text = self.header.end_of_text
        if path.stat().st_size <= CHECKED_WHEN_OPENED:
            ((_, _, borders),) = self._index.read(first, stop)
            ids = self._files.read(int(borders[0]), int(borders[-1]))
            self._check_vocabulary(ids, int(borders[0]))
            is_filled = np.diff(borders) > 0
            is_closed: NDArray[np.bool_] = is_filled & (ids[borders[1:] - borders[0] - 1] == end_of_text)
            if not is_closed.any() or is_closed[is_filled].all():
                return np.broadcast_to(is_closed.any(), stop - first)
            return is_closed
        step = max(1, (stop - first) // COMPARED_DOCUMENTS)
        last: list[int] = []
        for start in range(first, stop, READ_TOGETHER):
            ((_, _, borders),) = self._index.read(start, min(start + READ_TOGETHER, stop))
            filled = borders[1:][np.diff(borders) > 0]
            last += (filled[::step] - 1).tolist()
        closed = sum(int(self._files.read(place, place + 1)[0]) == end_of_text for place in last)
        if closed not in (0, len(last)):
            raise self._refuse_ends(path)
        return np.broadcast_to(np.bool_(closed > 0), stop - first)

    def _check_vocabulary(self, ids: TokenArray, start: int) -> None:
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


def _name_index(path: Path) -> Path:
    return path.with_name(path.name + INDEX_SUFFIX.removeprefix(SUFFIX))


def _check_index(path: Path) -> tuple[int, int, int]:
    """Documents of a file, its stored tokens, and the bytes of an id."""
    size = path.stat().st_size
    try:
        count = _name_index(path).stat().st_size // 8
        tokens = int(np.fromfile(_name_index(path), "<u8", offset=(count - 1) * 8)[0])
        width = size // tokens
        if width not in (2, 4):
            raise ValueError(f"an id takes {width} bytes where 2 or 4 are known")
    except (OSError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(f"{path} cannot be read ({error}); it needs its .ds.index") from error
    is_ascending = True
    for start in range(0, count, READ_TOGETHER):
        ends = np.fromfile(_name_index(path), "<u8", READ_TOGETHER + 1, offset=start * 8).astype(np.int64)
        is_ascending &= bool((np.diff(ends) >= 0).all())
    if tokens * width != size or not is_ascending:
        raise DataError(f"{path} holds {size} bytes, which its index contradicts; tokenise it again")
    return count, tokens, width
