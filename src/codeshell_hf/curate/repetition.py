"""Removes paragraphs and lines that many documents share: licence headers, vendored blocks, menus of web pages."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .settings import Piece

_SEPARATORS: dict[Piece, str] = {"line": "\n", "paragraph": "\n\n"}


def split_pieces(text: str, kind: Piece) -> Iterator[tuple[str, str]]:
    """Splits a text at line ends or empty lines into pairs of piece and separator, which join to the text."""
    separator = _SEPARATORS[kind]
    *pieces, last = text.split(separator)
    for piece in pieces:
        yield piece, separator
    yield last, ""


def hash_piece(piece: str) -> int:
    """Hashes a piece to 63 bits, ignoring white space."""
    plain = " ".join(piece.split()).encode("utf-8")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little") >> 1


def hash_pieces(text: str, kind: Piece, *, min_bytes: int) -> list[int]:
    """The sorted distinct hashes of a text's pieces of at least `min_bytes`."""
    return sorted({hash_piece(piece) for piece, _ in split_pieces(text, kind) if len(piece) >= min_bytes})


def find_holders(pieces: pa.Array, repeated: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Finds the texts that contain repeated pieces.

    Args:
        pieces: Hashes of each text's pieces, lists of int64, shape (D,); null if there are none.
        repeated: Hashes of repeated pieces, sorted, int64.

    Returns:
        Whether each contains one, bool, shape (D,).
    """
    is_holder = np.zeros(len(pieces), bool)
    values = pc.list_flatten(pieces).to_numpy(zero_copy_only=False)
    if len(values) and len(repeated):
        places = np.minimum(np.searchsorted(repeated, values), len(repeated) - 1)
        is_holder[pc.list_parent_indices(pieces).to_numpy(zero_copy_only=False)[repeated[places] == values]] = True
    return is_holder


def remove_pieces(text: str, kind: Piece, repeated: NDArray[np.int64], *, min_bytes: int) -> str:
    """Removes repeated pieces of at least `min_bytes` with their separators; `repeated` are sorted hashes, int64."""
    kept = []
    for piece, separator in split_pieces(text, kind):
        if len(piece) >= min_bytes and len(repeated):
            number = hash_piece(piece)
            place = int(np.searchsorted(repeated, number))
            if place < len(repeated) and repeated[place] == number:
                continue
        kept.append(piece + separator)
    return "".join(kept)
