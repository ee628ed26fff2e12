"""Finds keys and passwords in text: detect-secrets, on the lines that a fast look suspects."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

# Those that know a format; the others of detect-secrets go by chance and take every hash for a secret.
DETECTORS = (
    *("AWSKeyDetector", "ArtifactoryDetector", "AzureStorageKeyDetector", "BasicAuthDetector"),
    *("DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector"),
    *("MailchimpDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector"),
    *("SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector"),
    *("TelegramBotTokenDetector", "TwilioKeyDetector"),
)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z]{30,}\b")
HUB_TOKEN_KIND = "Hugging Face token"  # noqa: S105 - a kind of secret, none itself
# detect-secrets reads a fifth of a megabyte a second; every format that it knows has one of these.
_SUSPICIOUS = re.compile(
    r"hf_|://[^/\s]*:[^/\s]*@|AKIA|ASIA|A3T|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|APKA|AROA|AKC|AP\w{8}|AccountKey|"
    r"[MNO][A-Za-z\d_-]{23,25}\.|gh[pousr]_|gl\w+-|GR1348941|eyJ|-us\d{1,2}\b|_authToken|T3BlbkFJ|BEGIN|pypi-|SG\.|xox|"
    r"hooks\.slack|sq0|_live_|\d{8,10}:|\b(?:AC|SK)[a-z0-9]{32}|aws|AWS"
)
_TOKEN = re.compile(r"[\w-]+")
_WORDS = bytes(byte if byte < 128 and (chr(byte).isalnum() or byte in b"_-") else ord(" ") for byte in range(256))
# No format has a shorter word in it.
_KEY_BYTES = 11
_MARKS = (b"BEGIN", b"hooks.slack", b"_authToken", b"AccountKey")


@dataclass(frozen=True)
class Credential:
    """What looks like a key or password.

    Args:
        line: Where it stands, from 1.
        kind: What it looks like, in detect-secrets' words.
        value: The secret itself.
    """

    line: int
    kind: str
    value: str


def find_credentials(text: str, *, looks_everywhere: bool = False) -> Iterator[Credential]:
    """Finds what looks like a secret.

    Args:
        text: Any text.
        looks_everywhere: Whether every line is scanned, which gives the same a hundred times slower.

    Yields:
        Findings, line by line.
    """
    suspects = list(enumerate(text.split("\n"), 1)) if looks_everywhere else _find_suspects(text)
    if not suspects:
        return
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for number, line in suspects:
            for found in _HUB_TOKEN.finditer(line):
                yield Credential(number, HUB_TOKEN_KIND, found[0])
            for secret in scan_line(line):
                yield Credential(number, secret.type, _complete(secret.secret_value or "", line))


def _complete(value: str, line: str) -> str:
    """The whole word, where a detector gives no more than a token's beginning."""
    if len(value) >= _KEY_BYTES or value not in line:
        return value
    found = next((word for word in _TOKEN.findall(line) if word.startswith(value)), value)
    return found if len(found) >= _KEY_BYTES else value


def _find_suspects(text: str) -> list[tuple[int, str]]:
    """Lines that need a closer look: a key is a long word with a digit in it, or has a mark of its own."""
    data = text.encode("utf-8", errors="surrogatepass")
    words = {word for word in data.translate(_WORDS).split() if len(word) >= _KEY_BYTES}
    # Most long words of a program are names.
    keys = [
        word for word in words if not word.translate(None, b"_-").isalpha() or _SUSPICIOUS.search(word.decode("ascii"))
    ]
    marks = [*keys, *(mark for mark in _MARKS if mark in data)]
    if b"://" in data and b"@" in data:
        marks.append(b"://")
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
