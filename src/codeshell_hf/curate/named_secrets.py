"""Finds passwords and secrets by the names that they are assigned to, in code, settings, markup and commands."""

import re
from collections.abc import Iterator

from .personal_data import is_example

# In bytes: what a password or key has besides letters, and what may stand between a name and its value.
_LAST = r"[0-9!@#$%^&*+=?~]"
_LETTERS = r"[^\s\"'`\\0-9!@#$%^&*+=?~]*"
_GAP = r"[\x00-\x09\x0b-\x20\x80-\xff]"
_NAMES = (
    r"(?i:pass|pwd|secret|token|(?:api|app|access|auth|account|encryption|signing|private|consumer|client|session|shared"
    r"|master|license|service|subscription|encrypt|crypto|hmac|jwt)[_-]?key|identified by)"
)
SCANS = (
    rf"{_NAMES}[^;\n]*[\"'`]{_LETTERS}{_LAST}",
    rf"{_NAMES}[\w-]*[\"']?{_GAP}*[=:>\x80-\xff]{_GAP}*[^\s0-9!@#$%^&*+=?~]*{_LAST}",
    rf"(?:密|口令).*{_LAST}",
    rf"(?:requirepass|masterauth|--(?:pass|secret|token|api-key)|(?:-u|--user){_GAP}+[\"']?[\w.@\x80-\xff-]+:).*{_LAST}",
    rf"(?:login{_GAP}.*password|sshpass{_GAP}+-p|docker{_GAP}+login.*-p|mysql.*-p).*{_LAST}",
    rf"(?i:bearer|basic|authorization\"?:{_GAP}*\"?token|configure set .*){_GAP}+[\w+/=.~-]*[0-9]",
    r"://[^/\s]*@",
)
"""Patterns of bytes without lookaround, one of which every line with a named secret matches."""
_OF_PASSWORDS = (
    r"(?ai:pass(?:words?|wd|phrase|code|wort)|pwd|identified by)|密码|口令"
    r"|(?<![A-Za-z])(?:pass|PASS)(?![A-Za-z])|(?ai:db|user|mail|smtp|ftp|root|admin|ssh|sql|proxy|login|ldap)pass(?![A-Za-z])"
    r"|(?<=[a-z])Pass(?![A-Za-z])"
)
_OF_KEYS = (
    r"(?ai:secret(?:[_-]?(?:key|token|value))?(?:[_-]base)?|(?:api|app|access|auth|account|encryption|signing|private"
    r"|consumer|client|session|shared|master|license|service|subscription|encrypt|crypto|hmac|jwt)[_-]?(?:key|secret|token)|token)|密钥"
)
_SUFFIX = r"(?ai:[_-]?(?:prod(?:uction)?|dev|test|staging|live|value|string|raw|plain|\d{1,2}))?(?![A-Za-z0-9_-])"
_NAME = rf"(?:(?P<password>{_OF_PASSWORDS})|(?P<key>{_OF_KEYS})){_SUFFIX}"
_CLOSED = r"\\?[\"'`]?\s?\]?(?:\[\])?"
_TYPED = r"(?:\s?:\s?[\w&*<>\[\]. '|?]{1,30}?\s?(?==))?"
_ASSIGNED = r"(?P<assigned>\s*(?:===?|!==?|:=|=>|->|=|:|：|,|\()\s*|\s+(?:value\s*=\s*)?)"
_QUOTED = re.compile(
    rf"{_NAME}{_CLOSED}{_TYPED}{_ASSIGNED}(?:[brufBRUF@&]|Some\()?(?P<quote>\\?[\"'`])(?P<value>[^\s\"'`\\]{{6,512}})(?P=quote)"
)
_SETTING = re.compile(
    rf"^\s*(?:[-#;*]+\s+)?(?:-\s+)?(?:(?:export|set|setx|env|ENV|ARG|-e)\s+|\$env:)?(?P<before>[\w.\[\]/-]*?){_NAME}"
    r"[\"']?(?P<separator>\s*[=:：]\s*)(?P<value>[^\s\"'`]\S{5,511})\s*(?:\s[#;].*)?$"
)
_PAIR = re.compile(rf"{_NAME}=(?P<value>[^\s\"'`;&<>(){{}}\[\],]{{6,512}})(?=[\s;&\"'<]|$)")
_TAG = re.compile(rf"{_NAME}[\"']?\s*>\s*(?P<value>[^\s<>\"']{{6,512}})\s*<")
_COMMAND = re.compile(
    r"(?:\brequirepass|\bmasterauth|\blogin\s+\S+\s+password|--(?:password|passwd|pass|secret|token|api-key)"
    r"|\bsshpass\s+-p|\bdocker\s+login\b.{0,80}?\s-p|\bmysql\w*\s.{0,80}?-p|(?:-u|--user)\s+[\"']?[\w.@-]{1,64}:|(?:密码|口令)\s?[:：是为])"
    r"\s*[\"']?(?P<value>[\x21\x23-\x26\x28-\x7e]{6,200})"
)
_ADDRESS = re.compile(r"://[^\s:/@\"'<>]{0,64}:(?P<value>[^\s/@\"'<>]{3,256})@(?P<host>[\w.-]+|\[)")
_ADDRESS_KEY = re.compile(r"://(?P<value>[\w-]{20,256})(?=@[\w\[])")
_HEADER = re.compile(
    r"(?ai:\bbearer|\bbasic|authorization\"?:\s*\"?token|configure set \S+)\s+(?P<value>[\w+/=.~-]{16,2048})"
)
# Names before "key" or "token" of what is not a secret.
_PUBLIC = re.compile(r"(?i)(?:public[_-]?(?:key)?[_-]?|pub[_-]|::\w*|foreign[_-]?|primary[_-]?)$")
_CALL = re.compile(r"\(\s*[\"'][\w.-]*$")
_UUID = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_PORT = re.compile(r":\d{2,5}$")
_LONGEST_SETTING = 600
_SYMBOLS = frozenset("!@#$%^&*+=?~")
_DIGITS = frozenset("0123456789")
_VOWEL = re.compile(r"[aeiouy]")
_PLACEHOLDER = re.compile(
    r"(?i)your|example|change.?me|change.?this|placeholder|dummy|sample|replace|insert|todo|x{4}|\.\.\.|\*{3}|redacted"
    r"|<|>|\{|\}|\$\(|%\(|goes.here|^\$\w+$|^%\w+%$|^@\w+@$|^\$\d$|^[x*.#_-]+$|^%\w$|://|^\w+\["
    r"|\.(?:pem|key|crt|txt|json|ya?ml|env|conf|py|js|ts|html?|php)$"
    r"|(?:^|\|)(?:required|nullable|sometimes|confirmed|min:\d+)(?:\||$)"
)
_PATH = re.compile(r"~?\.{0,2}/")
_PLAIN_WORD = re.compile(
    r"(?i)^[a-z_.\-]*(?:password|passwd|pass|pwd|secret|token|key|test|string|text|none|null|true|false|field|input)[a-z_.\-]*\d?$"
)
_DOTTED = re.compile(r"^[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+$")
_IDENTIFIER = re.compile(r"^[A-Za-z_]\w*$")
_PIECES = re.compile(r"[_\-./:,;@ ]+|(?<=[a-z])(?=[A-Z])")
_WORDY = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+)\d{0,2}|\d{1,4}|")
_KEY_LETTERS = re.compile(r"[\w+/=.:~!@#$%^&*-]+", re.ASCII)
_MIN_KEY = 12
_LONG_KEY = 20


def find_named_secrets(line: str) -> Iterator[tuple[int, int, bool]]:
    """The places of passwords and secrets in a line: start, end, and whether it is a password."""
    for pattern in (_QUOTED, _TAG):
        for found in pattern.finditer(line):
            if _is_assigned(found):
                yield *found.span("value"), found["password"] is not None
    setting = _SETTING.search(line) if len(line) <= _LONGEST_SETTING else None
    if setting and _is_setting(setting):
        yield *setting.span("value"), setting["password"] is not None
    for found in _PAIR.finditer(line):
        value, is_password = found["value"], found["password"] is not None
        if not _DOTTED.match(value) and (_mixes(value) if is_password else is_key_value(value)):
            yield *found.span("value"), is_password
    for found in _COMMAND.finditer(line):
        if is_password_value(found["value"]):
            yield *found.span("value"), True
    for found in _ADDRESS.finditer(line):
        if is_password_value(found["value"]) and not is_example(found["host"]):
            yield *found.span("value"), True
    for pattern in (_HEADER, _ADDRESS_KEY):
        for found in pattern.finditer(line):
            if is_key_value(found["value"]):
                yield *found.span("value"), False


def _is_assigned(found: "re.Match[str]") -> bool:
    """Whether a quoted value or the text of an element is a secret; what only follows a name must look like one."""
    value, name = found["value"], found["password"]
    if name is None:
        return is_key_value(value) and not _is_public(found)
    assigned = found.groupdict().get("assigned")
    if assigned is not None and assigned.isspace():
        return name.lower() != "pass" and _mixes(value)
    if assigned is not None and assigned.strip() == ",":
        is_call = _CALL.search(found.string, max(0, found.start() - 80), found.start())
        return is_call is not None and _mixes(value) and not _PORT.search(value)
    return is_password_value(value)


def _is_public(found: "re.Match[str]") -> bool:
    """Whether a name is that of a public key or a number of a request."""
    if _PUBLIC.search(found.string, max(0, found.start() - 12), found.start()):
        return True
    return found["key"].lower() == "token" and _UUID.match(found["value"]) is not None


def _is_setting(found: "re.Match[str]") -> bool:
    """Whether a line of `name = value` without quotes is a setting with a secret, and no code."""
    value, separator = found["value"], found["separator"]
    if value[-1] in ",;({[" or "(" in value or _DOTTED.match(value):
        return False
    if found["password"] is None:
        return is_key_value(value) and not (separator.isspace() and _IDENTIFIER.match(value))
    name = found["before"] + found["password"]
    is_variable = _IDENTIFIER.match(value) and "=" in separator and not (name.isupper() and separator == "=")
    return _mixes(value) if is_variable and separator == "=" else not is_variable and is_password_value(value)


def is_password_value(value: str) -> bool:
    """Whether a value assigned to a password is one: no word, variable, address, type or placeholder."""
    if _PLACEHOLDER.search(value) or _PLAIN_WORD.match(value) or _PATH.match(value):
        return False
    has_letter = any(map(str.isalpha, value))
    return (has_letter and not (_DIGITS | _SYMBOLS).isdisjoint(value)) or _DIGITS.issuperset(value)


def _mixes(value: str) -> bool:
    """Whether a value is a password that is hardly a variable: digits before letters, or symbols."""
    is_mixed = re.search(r"\d[A-Za-z]|[!@#$%^&*+?~-]", value) is not None
    return is_mixed and is_password_value(value)


def is_key_value(value: str) -> bool:
    """Whether a value assigned to a key, token or secret is one: long, of letters and digits, and not of words."""
    if len(value) < _MIN_KEY or _PLACEHOLDER.search(value) or _DOTTED.match(value) or not _KEY_LETTERS.fullmatch(value):
        return False
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    if letters < 2 or digits < (1 if len(value) >= _LONG_KEY else 2):
        return False
    pieces = _PIECES.split(value)
    words = [piece for piece in pieces if _WORDY.fullmatch(piece) and (len(piece) > 2 or piece.isdigit() or not piece)]
    return len(words) < len(pieces) or not any(map(_VOWEL.search, pieces))
