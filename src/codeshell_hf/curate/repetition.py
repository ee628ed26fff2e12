"""Paragraphs and lines that stand in many documents: licence headers, vendored blocks, menus of web pages."""

import hashlib
from collections.abc import Iterator

import numpy as np
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
