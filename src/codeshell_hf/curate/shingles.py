"""Hashed shingles of words and their MinHash, vectorised over many documents.

A word is a run of ASCII letters, digits and underscores, or a single non-ASCII character, so that Chinese, which has no
spaces, is compared by characters; the operators before a word belong to it, other punctuation and white space do not. A
shingle is five consecutive words; a shorter document is one shingle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..text.word_hashes import FINISH, MIX, find_words, hash_operators, hash_words

SHINGLE_WORDS = 5
# Bytes of a block, which stays in the processor's cache.
BLOCK_BYTES = 300_000
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_ROLL = tuple(np.uint64(pow(0xD6E8FEB86659FD93, SHINGLE_WORDS - 1 - place, 2**64)) for place in range(SHINGLE_WORDS))


@dataclass(frozen=True)
class Shingles:
    """Concatenated shingles of documents.

    Args:
        hashes: Of every shingle in order, with repetitions, uint32, shape (S,).
        offsets: Start of each document's shingles, and the end of the last, int64, shape (D + 1,).
        words: Number of words in each document, int64, shape (D,).
    """

    hashes: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    words: NDArray[np.int64]


def shingle(documents: Sequence[bytes]) -> Shingles:
    """Hashes every five consecutive words of UTF-8 documents; a document without words has no shingle."""
    parts: list[Shingles] = []
    block: list[bytes] = []
    held = 0
    for document in documents:
        if block and held + len(document) > BLOCK_BYTES:
            parts.append(_shingle_block(block))
            block, held = [], 0
        block.append(document)
        held += len(document) + 1
    if block or not parts:
        parts.append(_shingle_block(block))
    hashes = np.concatenate([part.hashes for part in parts])
    starts = np.cumsum([0, *(len(part.hashes) for part in parts)])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
    words = np.concatenate([part.words for part in parts])
    return Shingles(hashes, np.concatenate([*offsets, starts[-1:]]).astype(np.int64), words)


def _shingle_block(documents: Sequence[bytes]) -> Shingles:
    joined = np.frombuffer(b"\n".join([*documents, b""]), np.uint8)
    starts, ends = find_words(joined)
    words = hash_words(joined, starts, ends)
    # Each document is followed by a line feed.
    sizes = np.fromiter(map(len, documents), np.int64, len(documents)) + 1
    first = np.searchsorted(starts, np.concatenate([[0], np.cumsum(sizes)]))
    counts = np.diff(first)
    operators = hash_operators(joined, starts, ends)
    operators[first[:-1][counts > 0]] = 0  # between two documents
    words += operators
    if len(words) >= SHINGLE_WORDS:
        rolled = words[: len(words) - SHINGLE_WORDS + 1] * _ROLL[0]
        for place in range(1, SHINGLE_WORDS):
            rolled += words[place : len(words) - SHINGLE_WORDS + 1 + place] * _ROLL[place]
    else:
        rolled = np.empty(0, np.uint64)
    # Shingles that start in a document's last four words would cross into the next one.
    whole = np.ones(len(rolled), bool)
    for back in range(1, SHINGLE_WORDS):
        reaching = first[1:] - back
        whole[reaching[(reaching >= first[:-1]) & (reaching < len(rolled))]] = False
    kept = np.flatnonzero(whole)
    hashes = _finish(rolled[kept])
    per_document = np.maximum(counts - SHINGLE_WORDS + 1, 0)
    short = np.flatnonzero((counts > 0) & (counts < SHINGLE_WORDS))
    if len(short):
        single = _finish(np.array([_fold(words[first[place] : first[place + 1]]) for place in short], np.uint64))
        hashes = np.insert(hashes, np.cumsum([0, *per_document])[short], single)
        per_document[short] = 1
    return Shingles(hashes, np.concatenate([[0], np.cumsum(per_document)]).astype(np.int64), counts)


def _fold(words: NDArray[np.uint64]) -> int:
    total = 1
    for word in words.tolist():
        total = (total * _BASE + word) % 2**64
    return total


def _finish(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    mixed = (hashes ^ (hashes >> np.uint64(30))) * FINISH
    return (mixed >> np.uint64(32)).astype(np.uint32)


def find_sets(shingles: Shingles) -> list[NDArray[np.uint32]]:
    """The set of shingles of each document: sorted and distinct, uint32."""
    pairs = zip(shingles.offsets[:-1], shingles.offsets[1:], strict=True)
    return [_unique(shingles.hashes[start:end]) for start, end in pairs]


def _unique(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    ordered = np.sort(hashes)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def measure_jaccard(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> float:
    """The Jaccard similarity of two sets of `find_sets`; 0 if both are empty."""
    if not len(first) or not len(second):
        return 0.0
    merged = np.concatenate([first, second])
    merged.sort()
    shared = int((merged[1:] == merged[:-1]).sum())
    return shared / (len(merged) - shared)


def sign(shingles: Shingles, *, bands: int, rows: int, seed: int = 1) -> NDArray[np.uint64]:
    """Signatures for locality-sensitive hashing: one number per band, equal if all `rows` minima are equal.

    Returns:
        Shape (D, bands), uint64. Two documents of Jaccard J share a given band with probability J ** rows.

    Source:
        Broder 1997, "On the resemblance and containment of documents"; banding after Leskovec, Rajaraman, Ullman,
        "Mining of Massive Datasets", section 3.4.
    """
    from rensa import RMinHash

    documents = len(shingles.offsets) - 1
    if not documents:
        return np.empty((0, bands), np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes.astype(np.uint64), shingles.offsets.astype(np.uint64), num_perm=bands * rows, seed=seed
    )
    digests = np.array(matrix.to_rows(), np.uint64).reshape(documents, bands, rows)
    signed = np.arange(1, bands + 1, dtype=np.uint64)[None, :] * MIX
    signed = np.broadcast_to(signed, (documents, bands)).copy()
    for row in range(rows):
        signed = (signed ^ digests[:, :, row]) * MIX
        signed ^= signed >> np.uint64(29)
    return signed * FINISH
