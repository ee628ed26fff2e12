"""Replaces personal and secret data: e-mail addresses, network addresses, keys, passwords."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..credentials import find_credentials

EMAIL, IP_ADDRESS, KEY, PASSWORD = "<EMAIL>", "<IP_ADDRESS>", "<KEY>", "<PASSWORD>"
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.)+[A-Za-z]{2,18}\b(?!\()"
)
# Domains reserved for examples (RFC 2606), and extensions of file names with an @, such as icon@2x.png.
_EXAMPLE_DOMAINS = ("example.com", "example.org", "example.net", "example.edu", "localhost", "domain.com", "email.com")
_FILE_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "html", "json", "so"})
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_FOUR_NUMBERS = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")  # starts with a dot, which is found fast
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:.])")
_VERSION_NEAR = re.compile(r"(?:\b|_)(?:version|ver|v|release)\b[^\n]{0,12}$", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----", re.DOTALL
)
_PASSWORD = re.compile(
    r"""(?i)\b[\w.-]*(?:password|passwd|passphrase|pwd|secret|api_?key|access_?key|auth_?token)["']?\s*(?::=|=>|=|:)\s*"""
    r"""(["'])(?P<value>[^"'\s\\]{6,128})\1"""
)
_PASSWORD_WORDS = (
    *(
        "passw",
        "passphrase",
        "pwd",
        "secret",
        "api_key",
        "apikey",
        "access_key",
        "accesskey",
        "auth_token",
        "authtoken",
    ),
)
# Values that are not passwords: variables, placeholders, paths.
_NO_PASSWORD = re.compile(
    r"(?i)^(?:[\w.\-]*(?:password|passwd|secret|token|key|example|changeme|placeholder|your|test|dummy|sample)[\w.\-]*"
    r"|[x*.#_-]+|<.*>|[$%]?\{.*\}|%\w|none|null|true|false|string|text|[a-z]+(?:[._-][a-z]+)*|[A-Z]+(?:_[A-Z]+)*|/.*|\w+://.*)$"
)


@dataclass
class Redacted:
    """A text with placeholders, and the number of each."""

    text: str
    counts: Counter[str] = field(default_factory=Counter)


def redact(text: str) -> Redacted:
    """Replaces personal and secret data by placeholders.

    Example and documentation addresses, private, loopback and unspecified networks, and version numbers stay.

    Source:
        The categories of StarCoder (Li et al. 2023, arXiv:2305.06161, section 4), without names of people, which need
        a trained model.

    >>> redact("mail ann@corp.io from 8.8.8.8, not 127.0.0.1").text
    'mail <EMAIL> from <IP_ADDRESS>, not 127.0.0.1'
    """
    result = Redacted(text)
    counts = result.counts

    def count(placeholder: str) -> str:
        counts[placeholder] += 1
        return placeholder

    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(lambda match: count(KEY), text)
    for credential in list(find_credentials(text)):
        # A private key without its end line stays.
        if len(credential.value) >= 8 and credential.value in text and not credential.value.startswith("BEGIN"):
            counts[KEY] += text.count(credential.value)
            text = text.replace(credential.value, KEY)
    text = _replace_lines(text, _PASSWORD_WORDS, _PASSWORD, lambda match: _replace_password(match, count), folds=True)
    text = _replace_lines(text, ("@",), _EMAIL, lambda match: count(EMAIL) if _is_personal(match[0]) else match[0])

    def replace_address(match: "re.Match[str]") -> str:
        return count(IP_ADDRESS) if _is_public(match) else match[0]

    if _FOUR_NUMBERS.search(text):
        text = _IPV4.sub(replace_address, text)
    text = _replace_lines(text, ("::", ":0:", ":ffff:"), _IPV6, replace_address)
    result.text = text
    return result


def _replace_lines(
    text: str,
    marks: tuple[str, ...],
    pattern: "re.Pattern[str]",
    replace: "Callable[[re.Match[str]], str]",
    *,
    folds: bool = False,
) -> str:
    """Replaces matches of a pattern in lines that contain a mark, since a mark is found faster than a pattern."""
    looked = text.lower() if folds else text
    if len(looked) != len(text):  # case folding lengthens a few letters
        looked = text
    starts = set()
    for mark in marks:
        place = looked.find(mark)
        while place >= 0:
            starts.add(text.rfind("\n", 0, place) + 1)
            end = text.find("\n", place)
            place = looked.find(mark, end) if end >= 0 else -1
    if not starts:
        return text
    parts, done = [], 0
    for start in sorted(starts):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        parts += [text[done:start], pattern.sub(replace, text[start:end])]
        done = end
    return "".join([*parts, text[done:]])


def _replace_password(match: "re.Match[str]", count: Callable[[str], str]) -> str:
    value = match["value"]
    if _NO_PASSWORD.match(value) or value in (KEY, PASSWORD):
        return match[0]
    start, end = match.start("value") - match.start(), match.end("value") - match.start()
    return match[0][:start] + count(PASSWORD) + match[0][end:]


def _is_personal(address: str) -> bool:
    domain = address.rpartition("@")[2].lower()
    return not domain.endswith(_EXAMPLE_DOMAINS) and domain.rpartition(".")[2] not in _FILE_EXTENSIONS


def _is_public(match: "re.Match[str]") -> bool:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    return address.is_global and not _VERSION_NEAR.search(match.string, max(0, match.start() - 24), match.start())
