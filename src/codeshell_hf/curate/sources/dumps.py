"""Text dumps: Common Crawl's WET files and Stack Exchange's posts."""

import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..settings import Source
from .source import Document, Unit
from .tables import BROKEN, open_file, read_lines

WET_SUFFIXES = (".wet", ".wet.gz", ".warc.wet.gz")
POSTS_SUFFIXES = ("posts.xml",)
# Questions are joined with their answers one bucket at a time; a bucket must fit into memory.
BUCKET_BYTES = 100_000_000
_QUESTION, _ANSWER = "1", "2"
_HEADER_BYTES = 65_536


def read_wet(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the pages of a WET file, one document each, with the host as repository.

    Source:
        The WARC file format 1.0, ISO 28500, section 4: header lines, an empty line, Content-Length bytes, two empty
        lines.
    """
    count = 0
    try:
        with open_file(Path(unit.path)) as file:
            while (headers := _read_headers(file)) is not None:
                size = int(headers["content-length"])
                content = file.read(min(size, max_bytes))
                _skip(file, size - len(content))
                if headers.get("warc-type") != "conversion":
                    continue
                address = headers.get("warc-target-uri", "")
                yield Document(
                    *(f"{unit.id}@{count}", address, content if size <= max_bytes else b"", size, "web-text"),
                    *(urlsplit(address).hostname, unit.licence, None, None if size <= max_bytes else "too-large"),
                )
                count += 1
    except (*BROKEN, ValueError, KeyError):
        yield Document(f"{unit.id}@", unit.id, reason="corrupt-file")


def _read_headers(file: IO[bytes]) -> dict[str, str] | None:
    line = file.readline(_HEADER_BYTES)
    while line in (b"\r\n", b"\n"):
        line = file.readline(_HEADER_BYTES)
    if not line:
        return None
    if not line.startswith(b"WARC/"):
        raise ValueError(f"{line[:20]!r} does not start a record")
    headers = {}
    while (line := file.readline(_HEADER_BYTES)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("utf-8", errors="replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _skip(file: IO[bytes], size: int) -> None:
    while size > 0:
        piece = file.read(min(size, 1 << 20))
        if not piece:
            raise EOFError("a record is truncated")
        size -= len(piece)


def read_posts(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the questions of a `Posts.xml`, each with its answers, as one document with the score as stars.

    The accepted answer comes first, then the others by score; answers below zero are left out.
    """
    buckets = max(1, -(-unit.size // BUCKET_BYTES))
    with tempfile.TemporaryDirectory(prefix="posts-") as folder, ExitStack() as stack:
        paths = [Path(folder, f"{index}.xml") for index in range(buckets)]
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for place, line, size in read_lines(unit, max_line_bytes=2 * max_bytes):
            if place < 0:
                yield Document(f"{unit.id}@", unit.id, reason="corrupt-file")
            elif line is None:
                yield Document(f"{unit.id}@{place}", unit.id, size=size, reason="too-large")
            elif line.lstrip().startswith(b"<row"):
                row = parse_row(line)
                if row is None:
                    yield Document(f"{unit.id}@{place}", unit.id, size=size, reason="broken-line")
                elif row.get("PostTypeId") in (_QUESTION, _ANSWER):
                    question = row["Id"] if row["PostTypeId"] == _QUESTION else row.get("ParentId", "0")
                    files[int(question) % buckets].write(line.strip() + b"\n")
        for file in files:
            file.flush()
        for path in paths:
            yield from _join_answers(path, unit, max_bytes=max_bytes)


def parse_row(line: bytes) -> dict[str, str] | None:
    """Parses a row of a dump, `<row Id="1" ... />`; `None` for other lines."""
    try:
        row = dict(ET.fromstring(line).attrib)  # noqa: S314 - one line of bounded length, without entities of its own
        int(row["Id"]), int(row.get("ParentId", 0)), int(row.get("Score", 0))
    except (ET.ParseError, KeyError, ValueError):
        return None
    return row


def _join_answers(path: Path, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    questions: dict[str, dict[str, str]] = {}
    answers: dict[str, list[dict[str, str]]] = defaultdict(list)
    with path.open("rb") as file:
        for line in file:
            row = parse_row(line)
            if row is not None and row["PostTypeId"] == _QUESTION:
                questions[row["Id"]] = row
            elif row is not None:
                answers[row.get("ParentId", "")].append(row)
    for key in sorted(questions, key=int):
        question = questions[key]
        content = format_question(question, answers[key]).encode()
        fits = len(content) <= max_bytes
        yield Document(
            *(f"{unit.id}@{key}", f"questions/{key}", content if fits else b"", len(content), "stack-exchange"),
            *(None, question.get("ContentLicense", unit.licence), int(question.get("Score", 0))),
            None if fits else "too-large",
        )


def format_question(question: dict[str, str], answers: list[dict[str, str]]) -> str:
    """Formats a question and its answers as Markdown."""
    accepted = question.get("AcceptedAnswerId")
    ranked = sorted(answers, key=lambda row: (row["Id"] != accepted, -int(row.get("Score", 0)), int(row["Id"])))
    parts = [f"# {question.get('Title', '').strip()}", html_to_markdown(question.get("Body", ""))]
    for row in ranked:
        if int(row.get("Score", 0)) >= 0:
            parts += ["## Answer", html_to_markdown(row.get("Body", ""))]
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def html_to_markdown(html: str) -> str:
    r"""Converts the HTML of a post to Markdown: paragraphs, code, lists, headings; quotes and emphasis are dropped.

    >>> html_to_markdown("<p>Use <code>len</code>:</p><pre><code>len(x) &lt; 3\n</code></pre>")
    'Use `len`:\n\n```\nlen(x) < 3\n```'
    """
    parser = _Markdown()
    parser.feed(html)
    parser.close()
    return parser.text()


class _Markdown(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._is_code_block = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
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
        elif tag in ("h1", "h2", "h3", "h4"):
            self._parts.append("\n\n### ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._is_code_block = False
            if self._parts and not self._parts[-1].endswith("\n"):
                self._parts.append("\n")
            self._parts.append("```\n\n")
        elif tag == "code" and not self._is_code_block:
            self._parts.append("`")

    def handle_data(self, data: str) -> None:
        self._parts.append(data if self._is_code_block else " ".join(data.split("\n")))

    def text(self) -> str:
        lines = "".join(self._parts).split("\n")
        kept = [
            line.rstrip() for index, line in enumerate(lines) if line.strip() or (index and lines[index - 1].strip())
        ]
        return "\n".join(kept).strip()
