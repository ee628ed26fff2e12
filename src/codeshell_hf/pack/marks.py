"""Special tokens in repository-level documents: `<reponame>` and `<filename>`.

Such a document is `<reponame>`, the name and a line break, and for each file `<filename>`, its path, a line break and
its text. A literal `<filename>` in a text is encoded as ordinary text.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..tokenization_codeshell import CodeShellTokenizer


@dataclass(frozen=True)
class Marks:
    """Ids of `<reponame>`, `<filename>` and the line break that ends a name or a path."""

    repository: int
    file: int
    line_break: int


def find_marks(tokenizer: CodeShellTokenizer) -> Marks | None:
    """The marks of a vocabulary; `None` if it lacks one, or a line break is more than one token."""
    vocabulary = tokenizer.get_vocab()
    repository, file = vocabulary.get("<reponame>"), vocabulary.get("<filename>")
    line_break: list[int] = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if repository is None or file is None or len(line_break) != 1:
        return None
    return Marks(repository, file, line_break[0])


def require_marks(tokenizer: CodeShellTokenizer, folder: Path) -> Marks:
    """The marks of a tokenizer that was loaded from a folder.

    Raises:
        DataError: If its vocabulary lacks one.
    """
    marks = find_marks(tokenizer)
    if marks is None:
        raise DataError(
            f"{folder} has no <reponame> and <filename>, or no token for a line break, which joined documents need; "
            "set repositories to null, or pack with another tokenizer"
        )
    return marks


def split_context(tokens: NDArray[np.int64], marks: Marks, draw: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits a piece of a repository-level document into context and the text of one file, which is to be rearranged.

    The file is moved behind the others, so that its middle ends the piece. Its path stays in the context.

    Args:
        tokens: Shape (T,).
        draw: Uniform in [0, 1); chooses a file with a probability proportional to its length.

    Returns:
        The other files followed by the path, and the text of the file; together of shape (T,). If no file starts in
        the piece, an empty context and the piece.
    """
    starts = np.flatnonzero(tokens == marks.file)
    breaks = np.flatnonzero(tokens == marks.line_break)
    if not len(starts):
        return tokens[:0], tokens
    after = np.searchsorted(breaks, starts)
    ends = np.append(starts[1:], len(tokens))
    # The piece may end within the path of its last file.
    bodies = np.where(after < len(breaks), np.append(breaks, len(tokens))[after] + 1, len(tokens))
    sizes = np.maximum(ends - bodies, 0)
    if not sizes.sum():
        return tokens, tokens[:0]
    chosen = int(np.searchsorted(np.cumsum(sizes), draw * sizes.sum(), side="right"))
    start, body, end = int(starts[chosen]), int(bodies[chosen]), int(ends[chosen])
    return np.concatenate([tokens[:start], tokens[end:], tokens[start:body]]), tokens[body:end]


def read_path(context: NDArray[np.int64], marks: Marks) -> NDArray[np.int64]:
    """The path at the end of a context from `split_context`, shape (path,)."""
    start = np.flatnonzero(context == marks.file)[-1] + 1
    path = context[start:]
    return path[:-1] if len(path) and path[-1] == marks.line_break else path
