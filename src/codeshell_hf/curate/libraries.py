"""Counts a document's imports, and those of well-known libraries."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

_IMPORTS: dict[str, re.Pattern[bytes]] = {
    "python": re.compile(
        rb"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)[\w.]*[ \t]+import\b|import[ \t]+([\w., \t]+))", re.MULTILINE
    ),
    "java": re.compile(rb"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+)", re.MULTILINE),
    "javascript": re.compile(
        rb"\bfrom[ \t]*['\"]([^'\"\n]+)['\"]|\brequire\(\s*['\"]([^'\"\n]+)['\"]"
        rb"|^import[ \t]*['\"]([^'\"\n]+)['\"]",
        re.MULTILINE,
    ),
    "go": re.compile(rb"^(?:import)?[ \t]*(?:[\w.]+[ \t]+)?\"([\w./-]+)\"[ \t]*$", re.MULTILINE),
    "rust": re.compile(rb"^[ \t]*(?:pub[ \t]+)?(?:use|extern crate)[ \t]+(?:::)?(\w+)", re.MULTILINE),
    "c": re.compile(rb"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)[>\"]", re.MULTILINE),
    "c-sharp": re.compile(rb"^[ \t]*using[ \t]+(?:static[ \t]+)?([\w.]+)[ \t]*;", re.MULTILINE),
    "php": re.compile(rb"^[ \t]*use[ \t]+\\?([\w\\]+)", re.MULTILINE),
    "ruby": re.compile(rb"^[ \t]*require[ \t(]+['\"]([\w/-]+)['\"]", re.MULTILINE),
    "kotlin": re.compile(rb"^[ \t]*import[ \t]+([\w.]+)", re.MULTILINE),
    "swift": re.compile(rb"^[ \t]*(?:@testable[ \t]+)?import[ \t]+(\w+)", re.MULTILINE),
    "r": re.compile(rb"\b(?:library|require)\([ \t]*['\"]?([\w.]+)", re.MULTILINE),
    "julia": re.compile(rb"^[ \t]*(?:using|import)[ \t]+([\w., \t]+)", re.MULTILINE),
    "lua": re.compile(rb"\brequire[ \t(]*['\"]([\w.-]+)['\"]", re.MULTILINE),
    "perl": re.compile(rb"^[ \t]*use[ \t]+([A-Z][\w:]*)", re.MULTILINE),
    "elixir": re.compile(rb"^[ \t]*(?:use|import|alias|require)[ \t]+([A-Z][\w.]*)", re.MULTILINE),
    "haskell": re.compile(rb"^import[ \t]+(?:qualified[ \t]+)?([\w.]+)", re.MULTILINE),
    "dart": re.compile(rb"^import[ \t]+['\"]package:(\w+)", re.MULTILINE),
}  # fmt: skip
# All imports of a language contain this word; matching only lines with it takes a third of the time.
_WORDS = {
    **dict.fromkeys(("python", "java", "kotlin", "swift", "haskell", "dart"), b"import"),
    **dict.fromkeys(("ruby", "lua"), b"require"),
    "c": b"include",
    "c-sharp": b"using",
    "php": b"use",
    "perl": b"use",
}
_SAME = {
    **dict.fromkeys(("cpp", "cuda", "objective-c"), "c"),
    **dict.fromkeys(("typescript", "vue", "svelte"), "javascript"),
    **dict.fromkeys(("scala", "groovy"), "java"),
    "cython": "python",
}
_ROOTS: dict[str, frozenset[str]] = {
    language: frozenset(names.split())
    for language, names in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).items()
}
_MARKS = re.compile(r"[/.\\]|::")
_MAX_IMPORTS = 400


def count_imports(data: bytes, language: str | None) -> tuple[int, int] | None:
    """Counts the distinct modules that a document imports: all, and those of well-known libraries.

    `None` for languages whose imports are not parsed.
    """
    family = _SAME.get(language or "", language or "")
    pattern = _IMPORTS.get(family)
    if pattern is None:
        return None
    word = _WORDS.get(family)
    names: set[str] = set()
    for match in pattern.finditer(b"\n".join(_find_lines(data, word)) if word else data):
        found = next((group for group in match.groups() if group), b"")
        names.update(part.split()[0] for part in found.decode("utf-8", errors="replace").split(",") if part.split())
        if len(names) > _MAX_IMPORTS:
            break
    known = _ROOTS[family]
    return len(names), sum(is_known(name, known) for name in names)


def _find_lines(data: bytes, word: bytes) -> Iterator[bytes]:
    """The lines that contain a word."""
    end = -1
    while (place := data.find(word, end + 1)) >= 0:
        start, end = data.rfind(b"\n", end + 1, place) + 1 or end + 1, data.find(b"\n", place)
        yield data[start:] if end < 0 else data[start:end]
        if end < 0:
            return


def is_known(name: str, known: frozenset[str]) -> bool:
    """Whether a module's name, or a prefix of it up to a separator, is a known library's.

    >>> is_known("org.slf4j.Logger", frozenset({"org.slf4j"})), is_known("reactor", frozenset({"react"}))
    (True, False)
    """
    if name in known:
        return True
    return any(name[: mark.start()] in known for mark in _MARKS.finditer(name))
