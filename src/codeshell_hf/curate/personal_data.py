"""Finds e-mail addresses, public network addresses, and Chinese phone and identity numbers."""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

_FOLDER = Path(__file__).parent


def _read_names(path: Path) -> frozenset[str]:
    return frozenset(path.read_text(encoding="utf-8").split())


SCANS = (
    r"[A-Za-z0-9_%+-]@[A-Za-z0-9-]+\.",
    r"[\[(] ?[aA][tT] ?[\])]",
    r"[0-9]\.[0-9]+\.[0-9]+\.[0-9]",
    r"[23][0-9A-Fa-f]{3}:",
    r"1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}",
    r"[1-9][0-9]{14}",
)
"""Patterns without lookaround, one of which every line with personal data matches."""
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.)+"
_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9_.+%@/$-])(?P<local>[A-Za-z0-9_%+-][A-Za-z0-9_.%+-]{{0,63}})@(?P<domain>{_DOMAIN}(?P<top>[A-Za-z]{{2,18}}))"
    r"(?![A-Za-z0-9_@(\[-]|\.\w)"
)
_SPELLED = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64} ?[\[(] ?(?i:at) ?[\])] ?[A-Za-z0-9-]+"
    r"(?:(?:\.| ?[\[(] ?(?i:dot) ?[\])] ?)[A-Za-z0-9-]+)*"
    r"(?:\.| ?[\[(] ?(?i:dot) ?[\])] ?)(?P<top>[A-Za-z]{2,18})\b"
)
# An SSH remote (git@host:path), the user of an address (https://user@host), and code (x@self.weight.T).
_REMOTE = re.compile(r":(?!\d{1,5}\b)[\w~/.:-]*[/:]|:[\w.-]+\.git\b|:[A-Za-z~]\w*$")
_USER = re.compile(r"://[^\s/\"'<>]*$")
_LOGIN = re.compile(r"\b(?:ssh|scp|sftp|mosh|ssh-copy-id|rsync)\s[^|;&\n]*$")
_VARIABLES = frozenset(
    ("self", "cls", "this", "other", "np", "torch", "tf", "jnp", "jax", "F", "nn", "params", "model", "x", "w")
)
_REMOTE_USERS = frozenset(("git", "hg", "svn"))
# Reserved for examples (RFC 2606), or used as such.
_EXAMPLE = re.compile(r"(?i)(?:^|\.)(?:example\.[a-z.]+|(?:domain|email|test|mydomain|yourdomain)\.com|foo\.bar)$")
_TOP_LEVEL = _read_names(_FOLDER / "top_level_domains.txt")

_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w|\.\*)")
_IPV6 = re.compile(
    r"(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,}(?<!:)(?![\w:])|(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]+::(?![\w:])"
)
_VERSION_BEFORE = re.compile(
    r"(?i)(?:version|\bver|\bv|\brev|release|build|firmware|driver|section|chapter|figure|table|clause|oid|§)s?"
    r"[^\n\d]{0,14}$|[=<>~!^]=? ?[\"']?$|[a-z]/$|#$"
)
_VERSION_AFTER = re.compile(
    r"(?i)\s*(?:version|release|kernel|build\b|driver|firmware|sdk|\(?(?:19|20)\d\d-\d\d)|[-+](?:alpha|beta|rc|dev|snapshot)"
)
_ASSIGNED_VERSION = re.compile(
    r"(?i)(?:host|addr|ip|server|dns|url|peer|proxy|gateway|remote|endpoint)\w*\s*[=<>~!^]=? ?[\"']?$"
)
# The numbers of a drawing's path, and "update X to 1.2.3.4".
_DRAWING = re.compile(r"[cCsSlLaAhHvVmMzZ]-?\d*\.\d+[-,. ]-?\d*\.\d")
_UPDATE = re.compile(r"(?i)(?:update|upgrad|bump|patch|migrat|deps|downgrad)[^\n]{0,30}$")
_OBJECT_IDENTIFIERS = ("1.3.6.1", "2.5.4.", "2.5.29.", "1.2.840.", "0.9.")
_PLACEHOLDERS = frozenset(("1.2.3.4", "5.6.7.8", "4.3.2.1"))
_ADDRESS_NEAR = re.compile(
    r"(?i)(?:\b|_)(?:ip|ips|ipv4|host|hosts|hostname|addr|address|server|nameserver|dns|ping|ssh|telnet|client|remote"
    r"|peer|proxy|gateway|listen|bind|allow|deny|route|endpoint)(?:\b|_)|://|@$|地址|主机|服务器"
)
_SMALL, _DIGIT = 32, 10
_RESOLVERS = frozenset(map(ipaddress.ip_address, _read_names(_FOLDER / "public_resolvers.txt")))

_PHONE = re.compile(r"(?<![\w.+-])(?:\+?86[ -]?)?1[3-9]\d(?P<gap>[ -]?)\d{4}(?P=gap)\d{4}(?![\w-]|\.\d)", re.ASCII)
_PHONE_NEAR = re.compile(
    r"(?i)phone|mobile|\btel\b|\btel[_:]|telephone|cell|what.?s.?app|wechat|sms|手机|电话|联系|拨打|热线|微信|号码"
)
_NUMBER_NEAR = re.compile(r"(?i)size|mem|byte|count|len|total|time|stamp|id|num|version|isbn")
_IDENTITY = re.compile(
    r"(?<![\w.-])[1-9]\d{5}(?:(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]"
    r"|\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3})(?![\w-]|\.\d)",
    re.ASCII,
)
_IDENTITY_NEAR = re.compile(r"(?i)id.?card|identity|id.?n(?:o|um)|citizen|cert.?n(?:o|um)|sfz|身份证|证件|公民")
_NEAR, _CLOSE = 40, 14
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"


def find_emails(line: str) -> Iterator[tuple[int, int]]:
    """The places of e-mail addresses, start and end; examples, SSH remotes, users in addresses and code stay."""
    if "@" in line:
        for found in _EMAIL.finditer(line):
            if _is_mailbox(found, line):
                yield found.span()
    for found in _SPELLED.finditer(line):
        if found["top"].lower() in _TOP_LEVEL:
            yield found.span()


def is_example(domain: str) -> bool:
    """Whether a domain is reserved for examples, or used as one."""
    return _EXAMPLE.search(domain) is not None


def _is_mailbox(found: "re.Match[str]", line: str) -> bool:
    domain = found["domain"].lower()
    if found["top"].lower() not in _TOP_LEVEL or is_example(domain):
        return False
    if found["local"] in _REMOTE_USERS or found["domain"].partition(".")[0] in _VARIABLES:
        return False
    if found["local"].endswith(".") or (found["top"] not in (found["top"].lower(), found["top"].upper())):
        return False
    if found["local"] == "self" or _LOGIN.search(line, max(0, found.start() - _NEAR), found.start()):
        return False
    return not _REMOTE.match(line, found.end()) and not _USER.search(line, max(0, found.start() - 200), found.start())


def find_addresses(line: str) -> Iterator[tuple[int, int]]:
    """The places of public IP addresses, start and end; resolvers, examples, versions and numbers of sections stay."""
    for found in _IPV4.finditer(line):
        if _is_public(found[0]) and not _is_version(found, line):
            yield found.span()
    for found in _IPV6.finditer(line):
        if _is_public(found[0]):
            yield found.span()


def _is_public(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and address not in _RESOLVERS


def _is_version(found: "re.Match[str]", line: str) -> bool:
    text, start = found[0], found.start()
    if text in _PLACEHOLDERS or text.startswith(_OBJECT_IDENTIFIERS):
        return True
    before = line[max(0, start - _NEAR) : start]
    if _DRAWING.search(line, max(0, start - 2 * _NEAR), found.end() + 2 * _NEAR) or _UPDATE.search(before):
        return True
    if _VERSION_BEFORE.search(before) and not _ASSIGNED_VERSION.search(before):
        return True
    if _VERSION_AFTER.match(line, found.end()):
        return True
    is_address = _ADDRESS_NEAR.search(before[-_CLOSE:]) or re.match(r":\d{2,5}\b|/\d{1,2}\b", line[found.end() :])
    numbers = [*map(int, text.split("."))]
    return not is_address and (max(numbers) < _SMALL or max(numbers[:3]) < _DIGIT)


def find_phones(line: str) -> Iterator[tuple[int, int]]:
    """The places of Chinese mobile numbers that are called so, written as one, or quoted; start and end."""
    for found in _PHONE.finditer(line):
        text = found[0]
        is_written = text.startswith("+") or found["gap"] == "-"
        is_quoted = line[found.start() - 1 : found.start()] in ("'", '"') and line[found.end() : found.end() + 1] in (
            "'",
            '"',
        )
        near = max(0, found.start() - _NEAR)
        is_named = _PHONE_NEAR.search(line, near, found.end() + _CLOSE) is not None
        if is_written or is_named or (is_quoted and not _NUMBER_NEAR.search(line, near, found.start())):
            yield found.span()


def find_identities(line: str) -> Iterator[tuple[int, int]]:
    """The places of Chinese identity numbers (GB 11643), start and end: called so, or with a right check digit."""
    for found in _IDENTITY.finditer(line):
        if is_checked(found[0]) or _IDENTITY_NEAR.search(line, max(0, found.start() - _NEAR), found.start()):
            yield found.span()


def is_checked(number: str) -> bool:
    """Whether 18 characters end in the check digit of ISO 7064 MOD 11-2, as GB 11643 has it."""
    if len(number) != len(_WEIGHTS) + 1:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return _CHECKS[total % 11] == number[-1].upper()
