"""Converts the HTML of posts to Markdown, in time that is linear in its length whatever it is."""

import html
import re

# A tag ends within so many characters, or is text.
_MAX_TAG = 2_000
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]{0,20})(?![A-Za-z0-9])")
_HEADINGS = ("h1", "h2", "h3", "h4")
_COMMENT_END = "-->"


def html_to_markdown(text: str) -> str:
    r"""Converts the HTML of a post to Markdown: paragraphs, code, lists, headings; quotes and emphasis are dropped.

    >>> html_to_markdown("<p>Use <code>len</code>:</p><pre><code>len(x) &lt; 3\n</code></pre>")
    'Use `len`:\n\n```\nlen(x) < 3\n```'
    """
    writer = _MarkdownWriter()
    place = 0
    while (start := text.find("<", place)) >= 0:
        end = _find_end(text, start)
        if end is None:
            writer.write(text[place : start + 1])
            place = start + 1
            continue
        writer.write(text[place:start])
        found = _TAG.match(text, start)
        if found is not None:
            (writer.end if text[start + 1] == "/" else writer.start)(found[1].lower())
        place = end
    writer.write(text[place:])
    return writer.text()


def _find_end(text: str, start: int) -> int | None:
    """The place after a tag or comment that starts with `<`; `None` if that is text."""
    if text.startswith("<!--", start):
        end = text.find(_COMMENT_END, start + 4, start + _MAX_TAG)
        return end + len(_COMMENT_END) if end >= 0 else None
    if text[start + 1 : start + 2] in ("!", "?") or _TAG.match(text, start) is not None:
        end = text.find(">", start, start + _MAX_TAG)
        return end + 1 if end >= 0 else None
    return None


class _MarkdownWriter:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._is_code_block = False

    def start(self, tag: str) -> None:
        if tag == "pre":
            self._is_code_block = True
            self._parts.append("\n\n```\n")
        elif tag == "code" and not self._is_code_block:
            self._parts.append("`")
        elif tag in ("p", "blockquote", "ul", "ol"):
            self._parts.append("\n\n")
        elif tag == "li":
            self._parts.append("\n- ")
        elif tag == "br":
            self._parts.append("\n")
        elif tag in _HEADINGS:
            self._parts.append("\n\n### ")

    def end(self, tag: str) -> None:
        if tag == "pre":
            self._is_code_block = False
            if self._parts and not self._parts[-1].endswith("\n"):
                self._parts.append("\n")
            self._parts.append("```\n\n")
        elif tag == "code" and not self._is_code_block:
            self._parts.append("`")

    def write(self, data: str) -> None:
        plain = html.unescape(data)
        if plain:
            self._parts.append(plain if self._is_code_block else plain.replace("\n", " "))

    def text(self) -> str:
        lines = "".join(self._parts).split("\n")
        kept = [
            line.rstrip() for index, line in enumerate(lines) if line.strip() or (index and lines[index - 1].strip())
        ]
        return "\n".join(kept).strip()
