"""Lines with labels: what redaction has to find, and where.

In `tests/data/redaction/lines.txt`, `«P:...»` marks a span by the letter of its placeholder. `{A36}` stands for 36
random letters of a class, so that the file has no key that looks real.
"""

import random
import re
import string
from dataclasses import dataclass
from pathlib import Path

LINES = Path(__file__).parents[1] / "data" / "redaction" / "lines.txt"
PLACEHOLDERS = {
    "K": "<KEY>", "P": "<PASSWORD>", "E": "<EMAIL>", "I": "<IP_ADDRESS>", "T": "<PHONE>", "N": "<ID_NUMBER>"
}  # fmt: skip
_LETTERS = {
    "A": string.ascii_letters + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "L": string.ascii_lowercase + string.digits,
    "H": string.hexdigits[:16],
    "D": string.digits,
    "S": string.ascii_letters + string.digits + "_-",
    "W": string.ascii_letters + string.digits + "+/",
    "B": string.ascii_uppercase + "234567",
}
_BODY = re.compile(r"\{([AULHDSWB])(\d+)\}")
_SPAN = re.compile(r"«([KPEITN]):(.*?)»")


@dataclass(frozen=True)
class Labelled:
    """A line, the spans of what has to go, as start, end and placeholder, and the line with placeholders."""

    line: str
    spans: frozenset[tuple[int, int, str]]
    redacted: str


def read_lines(path: Path = LINES, *, seed: int = 0) -> list[Labelled]:
    """Reads labelled lines; another seed gives other letters of keys."""
    rng = random.Random(seed)
    rows = [row for row in path.read_text(encoding="utf-8").split("\n") if row and not row.startswith("# ")]
    return [_read(_BODY.sub(lambda found: _draw(rng, found[1], int(found[2])), row)) for row in rows]


def _draw(rng: random.Random, letters: str, count: int) -> str:
    body = rng.choices(_LETTERS[letters], k=count)
    if body[-1] in "-_":  # words end in letters
        body[-1] = "a"
    if body[0] in "-_":
        body[0] = "b"
    return "".join(body)


def _read(row: str) -> Labelled:
    line, spans, done = "", set(), 0
    for found in _SPAN.finditer(row):
        line += row[done : found.start()]
        spans.add((len(line), len(line) + len(found[2]), PLACEHOLDERS[found[1]]))
        line += found[2]
        done = found.end()
    return Labelled(line + row[done:], frozenset(spans), _SPAN.sub(lambda found: PLACEHOLDERS[found[1]], row))
