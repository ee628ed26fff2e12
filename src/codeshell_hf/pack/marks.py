"""The marks of a joined document: where its repository's name and each of its files begin.

A joined document is `<reponame>`, a name and a line break, and for each file `<filename>`, its path, a line break and
its text. The two marks are ids of their own: the same letters inside a text are encoded as text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..tokenization_codeshell import CodeShellTokenizer


@dataclass(frozen=True)
class Marks:
    """Ids of `<reponame>` and `<filename>`, and of the line break that ends what they name."""

    repository: int
    file: int
    line_break: int


def find_marks(tokenizer: CodeShellTokenizer) -> Marks | None:
    """The marks of a vocabulary; `None` where it lacks one or writes a line break as several tokens."""
    vocabulary = tokenizer.get_vocab()
    repository, file = vocabulary.get("<reponame>"), vocabulary.get("<filename>")
    line_break: list[int] = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if repository is None or file is None or len(line_break) != 1:
        return None
    return Marks(repository, file, line_break[0])


def split_context(tokens: NDArray[np.int64], marks: Marks, draw: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Takes one file's text out of a piece of a joined document, for infilling with the others before it.

    The file goes behind the others, so that the end of what is filled in is the end of the piece. Its path stays before
    its text, outside of it.

    Args:
        tokens: Shape (T,).
        draw: Uniform in [0, 1), which chooses a file, longer ones more often.

    Returns:
        The others with the path, and the text of the file; together of shape (T,). Of a piece in which no file begins,
        nothing and the piece.
    """
    starts = np.flatnonzero(tokens == marks.file)
    breaks = np.flatnonzero(tokens == marks.line_break)
    if not len(starts):
        return tokens[:0], tokens
    after = np.searchsorted(breaks, starts)
    ends = np.append(starts[1:], len(tokens))
    # Of the last file, the piece may hold not even the whole path.
    bodies = np.where(after < len(breaks), np.append(breaks, len(tokens))[after] + 1, len(tokens))
    sizes = np.maximum(ends - bodies, 0)
    if not sizes.sum():
        return tokens, tokens[:0]
    chosen = int(np.searchsorted(np.cumsum(sizes), draw * sizes.sum(), side="right"))
    start, body, end = int(starts[chosen]), int(bodies[chosen]), int(ends[chosen])
    return np.concatenate([tokens[:start], tokens[end:], tokens[start:body]]), tokens[body:end]


def read_path(context: NDArray[np.int64], marks: Marks) -> NDArray[np.int64]:
    """The path of the file that `split_context` took out, which ends what is before its text; shape (path,)."""
    start = np.flatnonzero(context == marks.file)[-1] + 1
    path = context[start:]
    return path[:-1] if len(path) and path[-1] == marks.line_break else path
