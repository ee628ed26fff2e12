"""Draws snippets of curated code as seeds: whole functions and classes of Python, runs of lines of other languages."""

import ast
import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..text.code import parse_python
from ..text.documents import DocumentRow, list_parts, read_part
from .settings import SeedSettings

COLUMNS = ("id", "path", "language", "licence", "text", "digest", "quality")
# Texts that a chat template or a tokenizer may take for a token of its own.
_MARKUP = re.compile(r"<\|[^|\n]{1,40}\|>|<[|｜][^>\n]{1,40}>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|<fim_\w+>")


@dataclass(frozen=True)
class Seed:
    """A snippet.

    Args:
        id: Of the document, with the number of the snippet's first line, from 1.
        licence: The document's, if it is known.
    """

    id: str
    language: str
    licence: str | None
    text: str


def draw_seeds(folder: Path, settings: SeedSettings, *, seed: int) -> tuple[list[Seed], dict[str, int]]:
    """Draws seeds from the training split of curated documents.

    The same documents, settings and seed give the same seeds in the same order; memory holds no more than those.

    Args:
        folder: Output of `curate`.

    Returns:
        Seeds, and the number of documents by why none was drawn of them, and of those that had one.

    Raises:
        DataError: If there is none.
    """
    best: list[tuple[int, str, Seed]] = []  # a heap of the lowest ranks, the highest first
    counts: Counter[str] = Counter()
    for path in list_parts(folder):
        for row in read_part(path, split="train", columns=COLUMNS):
            reason = _refuse(row, settings)
            found = [] if reason else _choose_of_document(row, settings, seed)
            counts[reason or ("with a seed" if found else "no snippet fits")] += 1
            for rank, one in found:
                heapq.heappush(best, (-rank, one.id, one))
                if len(best) > settings.count:
                    heapq.heappop(best)
    if not best:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "no documents"
        raise DataError(f"{folder} has no seed ({reasons}); widen seeds.languages, min_quality or the limits of lines")
    return [one for _, _, one in sorted(best, key=lambda entry: (-entry[0], entry[1]))], dict(counts)


def _refuse(row: DocumentRow, settings: SeedSettings) -> str | None:
    """Why a document gives no seed, if it does not."""
    if row["language"] not in settings.languages:
        return "another language"
    if settings.min_quality is not None and (row["quality"] is None or row["quality"] < settings.min_quality):
        return "low quality"
    return None


def _choose_of_document(row: DocumentRow, settings: SeedSettings, seed: int) -> list[tuple[int, Seed]]:
    """The snippets of a document with the lowest ranks, which hashes decide."""
    ranked = []
    for line, text in list_snippets(row["text"], row["language"], settings):
        digest = hashlib.blake2b(f"{seed}\n{row['digest']}\n{line}".encode(), digest_size=8).digest()
        one = Seed(f"{row['id']}:{line}", row["language"], row["licence"], text)
        ranked.append((int.from_bytes(digest, "big"), one))
    return sorted(ranked, key=lambda entry: entry[0])[: settings.per_document]


def list_snippets(text: str, language: str, settings: SeedSettings) -> Iterator[tuple[int, str]]:
    """The snippets of a document that may be drawn, each with the number of its first line.

    Of Python they are functions and classes at any depth but within functions; what does not parse has none. Of other
    languages they are runs of `max_lines` lines, one after the other; `needs_docstring` leaves none of those.
    """
    lines = re.split(r"\r\n|[\r\n]", text)  # as Python counts lines
    places = _list_definitions(text, settings) if language == "python" else _list_runs(lines, settings)
    for first, last in places:
        snippet = _dedent(lines[first - 1 : last])
        is_long_enough = sum(bool(line.strip()) for line in lines[first - 1 : last]) >= settings.min_lines
        if is_long_enough and len(snippet) <= settings.max_characters and not _MARKUP.search(snippet):
            yield first, snippet


def _list_definitions(text: str, settings: SeedSettings) -> Iterator[tuple[int, int]]:
    tree = parse_python(text)
    waiting: list[ast.stmt] = list(tree.body) if tree is not None else []
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.ClassDef):
            waiting += node.body
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        last = node.end_lineno or node.lineno
        has_docstring = not settings.needs_docstring or bool(ast.get_docstring(node))
        if last - first < settings.max_lines and has_docstring:
            yield first, last


def _list_runs(lines: list[str], settings: SeedSettings) -> Iterator[tuple[int, int]]:
    if not settings.needs_docstring:
        for first in range(0, len(lines), settings.max_lines):
            yield first + 1, min(first + settings.max_lines, len(lines))


def _dedent(lines: list[str]) -> str:
    margin = len(lines[0]) - len(lines[0].lstrip(" \t"))
    return "\n".join(line[margin:] if not line[:margin].strip() else line for line in lines).strip("\n")
