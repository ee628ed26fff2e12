"""Characters as entries: which ones are required, and the merges that build them from bytes."""

import sys
import unicodedata
from collections.abc import Iterable
from functools import cache

from .vocabulary import BYTES, Merge, Vocabulary, to_bytes

LETTERS = {byte: letter for letter, byte in BYTES.items()}
CHINESE_PUNCTUATION = "，。、；：？！“”‘’（）《》〈〉【】「」『』〔〕—…·～￥"
LEVEL_TWO_ROWS = (56, 87)
CJK = (("\u2e80", "\u9fff"), ("\uac00", "\ud7af"), ("\uf900", "\ufaff"), ("\ufe30", "\ufe4f"), ("\uff00", "\uffef"))


@cache
def list_level_one() -> tuple[str, ...]:
    """Lists the 3,755 characters of GB/T 2312's level 1, in order.

    Source:
        GB/T 2312-1980: rows 16 to 55; the last five cells are empty.
    """
    return list_rows(16, 55)[:-5]


def list_rows(first: int, last: int) -> tuple[str, ...]:
    """Lists the characters of rows of GB/T 2312, 94 per row; empty cells are U+FFFD."""
    cells = bytes(byte + 0xA0 for row in range(first, last + 1) for cell in range(1, 95) for byte in (row, cell))
    return tuple(cells[index : index + 2].decode("gb2312", errors="replace")[0] for index in range(0, len(cells), 2))


@cache
def list_characters() -> tuple[str, ...]:
    """Lists the assigned non-ASCII characters of the Basic Multilingual Plane, and emoji."""
    codes = [*range(0x80, 0xD800), *range(0xF900, 0xFFF0), *range(0x1F300, 0x1FB00)]
    return tuple(chr(code) for code in codes if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs"))


def is_chinese(character: str) -> bool:
    """Whether a character is Chinese, Japanese or Korean, or their punctuation."""
    return any(first <= character <= last for first, last in CJK)


def has_chinese(token: str) -> bool:
    """Whether a token, in byte-level characters, contains a complete Chinese, Japanese or Korean character."""
    return any(map(is_chinese, to_bytes(token).decode("utf-8", errors="ignore")))


def write_bytes(text: str) -> str:
    """Writes a text in byte-level characters."""
    return "".join(LETTERS[byte] for byte in text.encode("utf-8"))


def spell(vocabulary: Vocabulary, characters: Iterable[str]) -> dict[str, tuple[Merge, ...]]:
    """Finds, for each character, the merges to append to a vocabulary so that it becomes one token.

    They merge from left to right. Merges of different characters do not interfere: each starts with a leading byte of
    UTF-8, and a character has only one.

    Returns:
        Merges by character; none for characters that are a token already.
    """
    wanted = list(characters)
    backend = vocabulary.make_backend()
    merges = {}
    for character, encoding in zip(wanted, backend.encode_batch(wanted, add_special_tokens=False), strict=True):
        made, found = encoding.tokens[0], []
        for piece in encoding.tokens[1:]:
            found.append((sys.intern(made), sys.intern(piece)))
            made += piece
        merges[character] = tuple(found)
    return merges
