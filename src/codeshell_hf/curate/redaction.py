"""Replaces personal and secret data, exactly where it stands, by placeholders."""

import functools
import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..key_formats import SCANS as KEY_SCANS
from ..key_formats import find_keys
from .named_secrets import SCANS as NAMED_SCANS
from .named_secrets import find_named_secrets
from .personal_data import SCANS as PERSONAL_SCANS
from .personal_data import find_addresses, find_emails, find_identities, find_phones

if TYPE_CHECKING:
    import hyperscan

EMAIL, IP_ADDRESS, KEY, PASSWORD = "<EMAIL>", "<IP_ADDRESS>", "<KEY>", "<PASSWORD>"
PHONE, ID_NUMBER = "<PHONE>", "<ID_NUMBER>"
# A private key in PEM: lines of Base64 and headers to its end or, cut short, as far as they go. Line ends may be
# escaped, and lines quoted, indented or commented.
_BREAK = r"(?:[ \t]*[\"'+,;\\]{0,4}[ \t]*(?:\r?\n|(?:\\r)?\\n)[ \t]*[>|*#\"'+-]{0,3}[ \t]*[\"']?)"
_HEADER = r"[A-Z][A-Za-z-]+: [^\n\\]*"
_LETTERS = r"[A-Za-z0-9+/=]"
_KEY_LINE = rf"(?:{_BREAK}{{1,4}}(?:{_HEADER}|{_LETTERS}+)(?![^\s\"'\\,;+-])| ?{_LETTERS}{{40,}})"
_KIND = r"(?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
_PRIVATE_KEY = re.compile(
    rf"-----BEGIN {_KIND}(?:{_KEY_LINE}*{_BREAK}{{0,4}} ?-----END {_KIND}"
    rf"|(?:{_BREAK}{{1,4}}(?:{_HEADER}{_BREAK}{{1,4}}){{0,4}}{_LETTERS}{{16,}}| ?{_LETTERS}{{40,}}){_KEY_LINE}*)"
)
_BLOCK_BYTES = 4_000_000
# A compiled scan has memory for one thread.
_SCANNING = threading.Lock()


@dataclass
class Redacted:
    """A text with placeholders, and the number of each."""

    text: str
    counts: Counter[str] = field(default_factory=Counter)


def redact(text: str) -> Redacted:
    """Replaces personal and secret data by placeholders.

    Example and documentation addresses, private, loopback and unspecified networks, public resolvers, and version
    numbers stay, as do other places of the same letters.

    Source:
        The categories of StarCoder (Li et al. 2023, arXiv:2305.06161, section 4), without names of people, which need
        a trained model; Chinese phone and identity numbers (GB 11643).

    >>> redact("mail ann@corp.io from 93.184.216.34, not 127.0.0.1").text
    'mail <EMAIL> from <IP_ADDRESS>, not 127.0.0.1'
    """
    return redact_all([text])[0]


def redact_all(texts: Sequence[str]) -> list[Redacted]:
    """Redacts documents as `redact` does; many small ones at once take less time."""
    results: list[Redacted] = []
    block: list[bytes] = []
    held = 0
    for text in texts:
        keys = 0
        if "PRIVATE KEY" in text:
            text, keys = _hide_private_keys(text)  # noqa: PLW2901
        results.append(Redacted(text, Counter({KEY: keys} if keys else {})))
        block.append(text.encode("utf-8", errors="surrogatepass"))
        held += len(block[-1])
        if held >= _BLOCK_BYTES:
            _redact_block(block, results[-len(block) :])
            block, held = [], 0
    if block:
        _redact_block(block, results[-len(block) :])
    return results


def _hide_private_keys(text: str) -> tuple[str, int]:
    spans = [match.span() for match in _PRIVATE_KEY.finditer(text) if "XXXX" not in match[0]]
    counts: Counter[str] = Counter()
    return _replace(text, [(start, end, KEY) for start, end in spans], counts), counts[KEY]


def _redact_block(documents: Sequence[bytes], results: Sequence[Redacted]) -> None:
    """Redacts documents, given as UTF-8 too, in place."""
    data = b"\n".join(documents)
    starts = np.cumsum([0, *(len(document) + 1 for document in documents)])
    changes: dict[int, list[tuple[int, int, bytes]]] = {}
    for start, end, kinds in _find_suspects(data):
        place = int(np.searchsorted(starts, start, side="right")) - 1
        end = min(end, int(starts[place + 1]) - 1)  # noqa: PLW2901 - without the line feed that joins documents
        line = data[start:end].decode("utf-8", errors="surrogatepass")
        if spans := find_spans(line, kinds):
            redacted = _replace(line, spans, results[place].counts).encode("utf-8", errors="surrogatepass")
            changes.setdefault(place, []).append((start - int(starts[place]), end - int(starts[place]), redacted))
    for place, lines in changes.items():
        parts, done = [], 0
        for start, end, redacted in lines:
            parts += [documents[place][done:start], redacted]
            done = end
        results[place].text = b"".join([*parts, documents[place][done:]]).decode("utf-8", errors="surrogatepass")


def find_spans(line: str, kinds: Sequence[int] = (0, 1, 2)) -> list[tuple[int, int, str]]:
    """The start, end and placeholder of all that a line has to lose, in order, without overlaps.

    Args:
        kinds: What is looked for: 0 for keys of known formats, 1 for named secrets, 2 for personal data.
    """
    found = [(*match.span(), KEY) for match in _PRIVATE_KEY.finditer(line)] if "PRIVATE KEY" in line else []
    for kind in sorted(kinds):
        found += _FINDERS[kind][1](line)
    kept: list[tuple[int, int, str]] = []
    for span in found:
        if all(span[1] <= start or end <= span[0] for start, end, _ in kept):
            kept.append(span)
    return sorted(kept)


def _find_keys(line: str) -> list[tuple[int, int, str]]:
    return [(start, end, KEY) for start, end in find_keys(line)]


def _find_named_secrets(line: str) -> list[tuple[int, int, str]]:
    return [(start, end, PASSWORD if is_password else KEY) for start, end, is_password in find_named_secrets(line)]


def _find_personal_data(line: str) -> list[tuple[int, int, str]]:
    return [
        *((start, end, EMAIL) for start, end in find_emails(line)),
        *((start, end, IP_ADDRESS) for start, end in find_addresses(line)),
        *((start, end, ID_NUMBER) for start, end in find_identities(line)),
        *((start, end, PHONE) for start, end in find_phones(line)),
    ]


# The first kinds take precedence where spans overlap.
_FINDERS = (
    (KEY_SCANS, _find_keys),
    (NAMED_SCANS, _find_named_secrets),
    (PERSONAL_SCANS, _find_personal_data),
)


def _replace(line: str, spans: list[tuple[int, int, str]], counts: Counter[str]) -> str:
    parts, done = [], 0
    for start, end, placeholder in spans:
        parts += [line[done:start], placeholder]
        counts[placeholder] += 1
        done = end
    return "".join([*parts, line[done:]])


def _find_suspects(data: bytes) -> list[tuple[int, int, list[int]]]:
    """The lines in which something may be found: start, end, and the kinds of finders to look with."""
    hits: set[tuple[int, int]] = set()

    def note(kind: int, start: int, end: int, flags: int, context: object) -> None:
        hits.add((end, kind))

    with _SCANNING:
        _compile_scans().scan(data, match_event_handler=note)
    lines: list[tuple[int, int, list[int]]] = []
    for end, kind in sorted(hits):
        if not lines or end > lines[-1][1]:
            line = data.rfind(b"\n", 0, end - 1) + 1, data.find(b"\n", end - 1) + 1 or len(data)
            lines.append((*line, []))
        if kind not in lines[-1][2]:
            lines[-1][2].append(kind)
    return lines


@functools.cache
def _compile_scans() -> "hyperscan.Database":
    """Compiles the scans of all finders into one automaton, whose matches have the kind of their finder."""
    import hyperscan

    scans = [(scan.encode(), kind) for kind, (scans, _) in enumerate(_FINDERS) for scan in scans]
    automaton = hyperscan.Database()
    automaton.compile(expressions=[scan for scan, _ in scans], ids=[kind for _, kind in scans], elements=len(scans))
    return automaton
