"""Cleans what sources state: ids, paths, names and numbers, which are as untrusted as texts."""

import hashlib
import math
import re
from dataclasses import replace
from decimal import Decimal

from .source import Document

MAX_NAME_CHARACTERS = 1_000
_MAX_INTEGER = 2**63
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_ESCAPED_BYTES = range(0xDC80, 0xDD00)  # what Python makes of file names that are not UTF-8
_HASH_BYTES = 4


def clean_text(text: str) -> str:
    r"""Escapes control characters, bytes that are not UTF-8, and lone surrogates; cuts what is long.

    >>> clean_text("caf\udce9\n")
    'caf\\xe9\\x0a'
    """
    if _NOT_TEXT.search(text) is not None:
        text = _NOT_TEXT.sub(_escape, text)
    if len(text) > MAX_NAME_CHARACTERS:
        return f"{text[:MAX_NAME_CHARACTERS]}~{_hash(text)}"
    return text


def clean_id(text: str) -> str:
    """Cleans an id; one that changes ends with a hash of what it was, so that ids stay unlike one another."""
    cleaned = clean_text(text)
    return cleaned if cleaned == text or len(text) > MAX_NAME_CHARACTERS else f"{cleaned}~{_hash(text)}"


def clean_number(value: object) -> int | None:
    """A number as an integer of 64 bits, towards zero; `None` for NaN, infinity or a larger one.

    >>> clean_number(3.7), clean_number("12"), clean_number(float("inf")), clean_number(10**30), clean_number(True)
    (3, 12, None, None, None)
    """
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if not isinstance(value, int):
        if not math.isfinite(value):
            return None
        value = int(value)
    return value if -_MAX_INTEGER <= value < _MAX_INTEGER else None


def clean_document(document: Document) -> Document:
    """Cleans everything but the content."""
    return replace(
        document,
        id=clean_id(document.id),
        path=clean_text(document.path),
        size=max(clean_number(document.size) or 0, 0),
        repository=clean_text(document.repository) if document.repository else None,
        licence=clean_text(document.licence) if document.licence else None,
        stars=clean_number(document.stars),
        origin=clean_text(document.origin),
    )


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code in _ESCAPED_BYTES:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
