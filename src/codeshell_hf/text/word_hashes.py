"""Hashed words and word sequences, vectorised.

A word is a run of ASCII letters, digits and underscores, or a single non-ASCII character, so that Chinese, which has no
spaces, is compared by characters.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

# A text touches another if it has ten consecutive words of it.
WORDS = 10
# Shorter texts are not specific enough: "return x + 1" is everywhere.
MIN_WORDS = 6
# The multipliers of SplitMix64, which spread each bit over all 64.
MIX = np.uint64(0xBF58476D1CE4E5B9)
FINISH = np.uint64(0x94D049BB133111EB)
# For bytes.translate, which takes half the time of numpy's take: 1 for the bytes of words.
_WORD_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_WORD = bytes(byte in _WORD_LETTERS for byte in range(256))
_HIGH = 0x80
_LEAD = 0xC0
_STEP = 8
# `_MASKS[n]` keeps the first n of eight bytes, `_LAST[n]` the last n.
_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(_STEP + 1)], np.uint64)
_LAST = np.array([(2**64 - 1) ^ ((1 << (8 * (_STEP - count))) - 1) for count in range(_STEP + 1)], np.uint64)
# At most 63, so that four have a sum in one byte; chosen so that no two operators, such as == and -, have the same.
_CODES = dict(zip(b"=+-<>*/%!&|^~", (45, 16, 58, 2, 62, 46, 38, 27, 56, 22, 43, 3, 7), strict=True))
_OPERATORS = bytes(_CODES.get(byte, 0) for byte in range(256))
_ONES = np.uint64(0x0101010101010101)
_TOP = np.uint64(56)
_LENGTH = np.uint64(0xA24BAED4963EE407)
_LONG_WORD = 256
_UPPER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
_MULTIPLY = 0x9E3779B97F4A7C15


def find_words(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the words in UTF-8 bytes of shape (B,): their start and end offsets, int64, shape (W,)."""
    padded = np.frombuffer(b"\0" + data.tobytes().translate(_WORD) + b"\0", bool)
    if len(data) and data.max() >= _HIGH:
        is_word = padded[1:-1]
        is_start, is_end = is_word & ~padded[:-2], is_word & ~padded[2:]
        is_start |= data >= _LEAD
        following = np.concatenate([data[1:], [np.uint8(0)]])
        is_end |= (data >= _HIGH) & ((following < _HIGH) | (following >= _LEAD))
        return np.flatnonzero(is_start), np.flatnonzero(is_end) + 1
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return edges[::2], edges[1::2]


def hash_words(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes the words of `find_words`, eight bytes at a time, all words at once; uint64, shape (W,)."""
    padded = np.concatenate([data, np.zeros(_STEP, np.uint8)])
    # The eight bytes from every position.
    eights = np.ndarray((len(data) + 1,), np.dtype("<u8"), padded, strides=(1,))
    lengths = ends - starts
    words = eights[starts]
    words &= _MASKS.take(lengths, mode="clip")
    words += lengths.astype(np.uint64) * _LENGTH
    words = _mix(words)
    left = np.flatnonzero(lengths > _STEP)
    done = _STEP
    while len(left) and done < _LONG_WORD:
        more = lengths[left] - done
        piece = eights[starts[left] + done] & _MASKS[np.minimum(more, _STEP)]
        words[left] = _mix(words[left] ^ piece)
        left = left[more > _STEP]
        done += _STEP
    for place in left:  # very long words, which are data: hashed one by one
        rest = data[starts[place] + done : ends[place]].tobytes()
        words[place] ^= np.uint64(int.from_bytes(hashlib.blake2b(rest, digest_size=_STEP).digest(), "little"))
    return words


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words * MIX
    words ^= words >> np.uint64(29)
    words *= FINISH
    return words


def hash_operators(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes the operators before each word of `find_words`, whatever white space is between; 0 without; shape (W,).

    They are looked for in the eight bytes before a word and the eight behind the last one; their order does not count.
    The first word of the data has none.
    """
    found = np.zeros(len(starts), np.uint64)
    if len(starts) < 2:
        return found
    codes = bytes(_STEP) + data.tobytes().translate(_OPERATORS) + bytes(_STEP)
    eights = np.ndarray((len(data) + _STEP + 1,), np.dtype("<u8"), codes, strides=(1,))
    gaps = starts[1:] - ends[:-1]
    before = eights[starts[1:]]
    before &= _LAST.take(gaps, mode="clip")
    wide = np.flatnonzero(gaps > _STEP)
    if len(wide):
        before[wide] += eights[ends[wide] + _STEP] & _MASKS[np.minimum(gaps[wide] - _STEP, _STEP)]
    before *= _ONES
    before >>= _TOP  # the sum of eight bytes
    np.multiply(before, MIX, out=found[1:])
    return found


def hash_text(text: bytes) -> NDArray[np.uint64]:
    """Hashes the words of a UTF-8 text, ignoring case; uint64, shape (W,)."""
    data = np.frombuffer(text.translate(_UPPER), np.uint8)
    return hash_words(data, *find_words(data))


def roll(words: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Hashes every `size` consecutive words: uint64, shape (W,) to (max(W - size + 1, 0),)."""
    count = len(words) - size + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    rolled = np.zeros(count, np.uint64)
    for place in range(size):
        rolled = rolled * np.uint64(_MULTIPLY) + words[place : place + count]
    rolled ^= rolled >> np.uint64(32)
    return rolled * np.uint64(_MULTIPLY)
