"""Stack Exchange's dump of posts."""

import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ..settings import Source
from .markdown import html_to_markdown
from .source import Document, Unit
from .tables import read_lines

POSTS_SUFFIXES = ("posts.xml",)
# Questions are joined with their answers one bucket at a time; a bucket must fit into memory.
BUCKET_BYTES = 100_000_000
_QUESTION, _ANSWER = "1", "2"
# Lines that are not posts.
_FRAME = (b"<?xml", b"<posts", b"</posts", b"<!--")
_BOM = b"\xef\xbb\xbf"


def read_posts(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads the questions of a `Posts.xml`, each with its answers, as one document with the score as stars.

    The accepted answer comes first, then the others by score; answers below zero are left out. Answers without their
    question have the reason "no-question", posts of other kinds "other-post", a question that occurred before
    "repeated-id".
    """
    buckets = max(1, -(-unit.size // BUCKET_BYTES))
    with tempfile.TemporaryDirectory(prefix="posts-") as folder, ExitStack() as stack:
        paths = [Path(folder, f"{index}.xml") for index in range(buckets)]
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for place, line, size in read_lines(unit, max_line_bytes=2 * max_bytes):
            key = f"{unit.id}@line-{place}"
            if isinstance(line, str):
                yield Document(key, unit.id, size=size, reason=line)
                continue
            text = line.removeprefix(_BOM).strip()
            if not text or text.startswith(_FRAME):
                continue
            row = parse_row(text)
            if row is None:
                yield Document(key, unit.id, size=size, reason="broken-line")
            elif row.get("PostTypeId") not in (_QUESTION, _ANSWER):
                yield Document(key, unit.id, size=size, reason="other-post")
            else:
                question = row["Id"] if row["PostTypeId"] == _QUESTION else row.get("ParentId", "0")
                files[int(question) % buckets].write(text + b"\n")
        for file in files:
            file.flush()
        for path in paths:
            yield from _join_answers(path, unit, max_bytes=max_bytes)


def parse_row(line: bytes) -> dict[str, str] | None:
    """Parses a row of a dump, `<row Id="1" ... />`; `None` for other lines."""
    try:
        element = ET.fromstring(line)  # noqa: S314 - one line of bounded length, without entities of its own
        row = dict(element.attrib)
        int(row["Id"]), int(row.get("ParentId", 0)), int(row.get("Score", 0))
    except (ET.ParseError, KeyError, ValueError):
        return None
    return row if element.tag == "row" else None


def _join_answers(path: Path, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    questions: dict[int, dict[str, str]] = {}
    answers: dict[int, list[dict[str, str]]] = defaultdict(list)
    repeated: list[tuple[int, int]] = []
    with path.open("rb") as file:
        for line in file:
            row = parse_row(line)
            if row is None:
                continue
            number = int(row["Id"])
            if row["PostTypeId"] == _ANSWER:
                answers[int(row.get("ParentId", 0))].append(row)
            elif number in questions:
                repeated.append((number, len(line)))
            else:
                questions[number] = row
    for number, question in sorted(questions.items()):
        content = format_question(question, answers.pop(number, [])).encode("utf-8", errors="surrogatepass")
        fits = len(content) <= max_bytes
        yield Document(
            *(f"{unit.id}@{number}", f"questions/{number}", content if fits else b"", len(content), "stack-exchange"),
            *(None, question.get("ContentLicense", unit.licence), int(question.get("Score", 0))),
            None if fits else "too-large",
        )
    for place, (number, size) in enumerate(repeated):
        yield Document(f"{unit.id}@{number}#{place + 2}", f"questions/{number}", size=size, reason="repeated-id")
    for place, row in enumerate(row for _, rows in sorted(answers.items()) for row in rows):
        key = f"{unit.id}@answer-{row['Id']}-{path.stem}-{place}"
        yield Document(key, f"answers/{row['Id']}", size=len(row.get("Body", "").encode()), reason="no-question")


def format_question(question: dict[str, str], answers: list[dict[str, str]]) -> str:
    """Formats a question and its answers as Markdown."""
    accepted = question.get("AcceptedAnswerId")
    ranked = sorted(answers, key=lambda row: (row["Id"] != accepted, -int(row.get("Score", 0)), int(row["Id"])))
    parts = [f"# {question.get('Title', '').strip()}", html_to_markdown(question.get("Body", ""))]
    for row in ranked:
        if int(row.get("Score", 0)) >= 0:
            parts += ["## Answer", html_to_markdown(row.get("Body", ""))]
    return "\n\n".join(part for part in parts if part.strip()) + "\n"
