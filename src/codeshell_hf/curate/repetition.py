"""Paragraphs and lines that stand in many documents: licence headers, vendored blocks, menus of web pages."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_BETWEEN = {"line": "\n", "paragraph": "\n\n"}


def split_pieces(text: str, kind: str) -> Iterator[tuple[str, str]]:
    """Splits a text where lines end, or at empty lines.

    Args:
        text: Any text.
        kind: "line" or "paragraph".

    Yields:
        Each piece and what stands between it and the next; together they are the text.
    """
    between = _BETWEEN[kind]
    *pieces, last = text.split(between)
    for piece in pieces:
        yield piece, between
    yield last, ""


def hash_piece(piece: str) -> int:
    """A number for a piece, whatever white space is in it.

    Args:
        piece: A line or paragraph.

    Returns:
        63 bits.
    """
    plain = " ".join(piece.split()).encode("utf-8")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little") >> 1


def hash_pieces(text: str, kind: str, *, min_bytes: int) -> list[int]:
    """Numbers of a text's pieces.

    Args:
        text: Any text.
        kind: "line" or "paragraph".
        min_bytes: Shorter pieces are left out.

    Returns:
        Each number once, in order.
    """
    return sorted({hash_piece(piece) for piece, _ in split_pieces(text, kind) if len(piece) >= min_bytes})


def find_holders(pieces: pa.Array, repeated: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Finds the texts that hold repeated pieces, by the numbers that were kept of each.

    Args:
        pieces: Lists of int64, one a text, shape (D,); null where nothing was kept.
        repeated: Numbers of repeated pieces, sorted, int64.

    Returns:
        Whether each holds one, bool, shape (D,).
    """
    is_holder = np.zeros(len(pieces), bool)
    values = pc.list_flatten(pieces).to_numpy(zero_copy_only=False)
    if len(values) and len(repeated):
        places = np.minimum(np.searchsorted(repeated, values), len(repeated) - 1)
        is_holder[pc.list_parent_indices(pieces).to_numpy(zero_copy_only=False)[repeated[places] == values]] = True
    return is_holder


def remove_pieces(text: str, kind: str, repeated: NDArray[np.int64], *, min_bytes: int) -> str:
    """Removes the pieces that many documents share.

    Args:
        text: Any text.
        kind: "line" or "paragraph".
        repeated: Numbers of those to remove, sorted, int64.
        min_bytes: Shorter pieces stay.

    Returns:
        The text without them and without what stood behind each.
    """
    kept = []
    for piece, between in split_pieces(text, kind):
        if len(piece) >= min_bytes and len(repeated):
            number = hash_piece(piece)
            place = int(np.searchsorted(repeated, number))
            if place < len(repeated) and repeated[place] == number:
                continue
        kept.append(piece + between)
    return "".join(kept)
