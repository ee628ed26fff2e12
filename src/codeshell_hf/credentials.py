"""Finds keys and passwords in text with detect-secrets, on lines that a fast prefilter selects."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

# Detectors of known formats; the others measure entropy and report every hash.
DETECTORS = (
    *("AWSKeyDetector", "ArtifactoryDetector", "AzureStorageKeyDetector", "BasicAuthDetector"),
    *("DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector"),
    *("MailchimpDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector"),
    *("SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector"),
    *("TelegramBotTokenDetector", "TwilioKeyDetector"),
)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z]{30,}\b")
HUB_TOKEN_KIND = "Hugging Face token"  # noqa: S105 - a kind of secret, not a secret
# detect-secrets reads 0.2 MB/s. What it finds is in a long word of one of these forms, or on a line with a mark.
_KEY_BYTES = 11
_KEY_WORD = re.compile(
    rb"hf_[A-Za-z]{30}|A3T[A-Z0-9]{17}|A(?:BIA|CCA|KIA|SIA)[0-9A-Z]{16}|AKC[A-Za-z0-9]{10}|AP[\dA-F][A-Za-z0-9]{8}"
    rb"|gh[pousr]_\w{36}|gl[a-z]+-[\w-]{20}|GR1348941|eyJ|[0-9a-z]{32}-us\d|T3BlbkFJ|pypi-Ag|[xX][oO][xX][a-zA-Z]-"
    rb"|sq0csp-|k_live_\w{24}|(?:AC|SK)[a-z0-9]{32}|[MNO][\w-]{23}|[\w-]{35}"
)
_MARKS = (b"BEGIN", b"hooks.slack", b"_authToken", b"AccountKey", b"SG.")
# Lines with a match are scanned.
_SUSPICIOUS = re.compile(
    r"hf_|://[^/\s]*:[^/\s]*@|A3T|A(?:BIA|CCA|KIA|SIA)|AKC\w{10}|AP[\dA-F]\w{8}|AccountKey|[MNO][\w-]{23,25}\.[\w-]{6}\."
    r"|gh[pousr]_|gl[a-z]+-|GR1348941|eyJ|-us\d|_authToken|T3BlbkFJ|BEGIN|pypi-|SG\.|(?i:xox)|(?i:hooks\.slack)|sq0csp-"
    r"|_live_|\d{8,10}:[\w-]{35}|(?:AC|SK)[a-z0-9]{32}|(?i:aws).*[\"'][0-9a-zA-Z/+]{40}[\"']"
)
_TOKEN = re.compile(r"[\w-]+")
_AWS = re.compile(rb"aws")
_WORDS = bytes(byte if byte < 128 and (chr(byte).isalnum() or byte in b"_-") else ord(" ") for byte in range(256))


@dataclass(frozen=True)
class Credential:
    """A likely key or password; lines count from 1, `kind` is detect-secrets' name."""

    line: int
    kind: str
    value: str


def find_credentials(text: str, *, uses_prefilter: bool = True) -> Iterator[Credential]:
    """Finds likely secrets, line by line; without the prefilter the result is the same, but slower."""
    suspects = _find_suspects(text) if uses_prefilter else list(enumerate(text.split("\n"), 1))
    if not suspects:
        return
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for number, line in suspects:
            for found in _HUB_TOKEN.finditer(line):
                yield Credential(number, HUB_TOKEN_KIND, found[0])
            for secret in scan_line(line):
                yield Credential(number, secret.type, _complete(secret.secret_value or "", line))


def _complete(value: str, line: str) -> str:
    """The whole word, since a detector may return only a token's beginning."""
    if len(value) >= _KEY_BYTES or value not in line:
        return value
    found = next((word for word in _TOKEN.findall(line) if word.startswith(value)), value)
    return found if len(found) >= _KEY_BYTES else value


@lru_cache(maxsize=1 << 16)
def _may_be_key(word: bytes) -> bool:
    return _KEY_WORD.search(word) is not None


def _find_suspects(text: str) -> list[tuple[int, str]]:
    """The lines that detect-secrets has to scan."""
    data = text.encode("utf-8", errors="surrogatepass")
    words = {word for word in data.translate(_WORDS).split() if len(word) >= _KEY_BYTES}
    marks = [*filter(_may_be_key, words), *(mark for mark in _MARKS if mark in data)]
    if b"://" in data and b"@" in data:
        marks.append(b"://")
    lowered = data.lower()
    if b"aws" in lowered:
        marks += {data[found.start() : found.end()] for found in _AWS.finditer(lowered)}
    starts = set()
    for mark in marks:
        place = data.find(mark)
        while place >= 0:
            starts.add(data.rfind(b"\n", 0, place) + 1)
            end = data.find(b"\n", place)
            place = data.find(mark, end) if end >= 0 else -1
    found, number, place = [], 1, 0
    for start in sorted(starts):
        end = data.find(b"\n", start)
        line = data[start : end if end >= 0 else len(data)].decode("utf-8", errors="surrogatepass")
        if _SUSPICIOUS.search(line):
            number += data.count(b"\n", place, start)
            place = start
            found.append((number, line))
    return found
