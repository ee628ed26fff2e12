"""Scores how much a document is preferred over others, by signals for which a threshold would be too strict.

The report names well-known libraries and suitable complexity.
"""

from typing import TypedDict

# Corners of trapezoids: two to eight paths in a function, one byte of comments for every three to thirty of code.
_COMPLEXITY = (1.5, 2.5, 8.0, 16.0)
_COMMENTS = (0.0, 0.05, 0.35, 0.8)
_LINES = (3.0, 20.0, 800.0, 5000.0)
_KNOWN_IMPORTS = 3
_FAULTS_PER_LINE = 0.2


class Glanced(TypedDict):
    """The signals that are measured of every document; `None` if one does not apply to its language."""

    lines: int
    mean_line: float
    duplicate_line_fraction: float
    style_faults: int
    imports: int | None
    known_imports: int | None


class Measured(Glanced):
    """All signals of a score."""

    parses: bool | None
    comment_fraction: float | None
    complexity: float | None
    functions: int | None
    syntax_faults: int | None
    faults: int | None
    security_faults: int | None


def stand(signals: Glanced) -> float:
    """Scores a document by its cheap signals, 0 to 1; of duplicates the one that stands highest stays.

    The mean of the criteria of `prefer` that need no parser and no linter.
    """
    parts = _judge_cheaply(signals)
    parts.append(max(0.0, 1 - signals["style_faults"] / max(signals["lines"], 1) / _FAULTS_PER_LINE))
    return sum(parts) / len(parts)


def _judge_cheaply(signals: Glanced) -> list[float]:
    parts = [_band(signals["lines"], _LINES), 1 - min(signals["duplicate_line_fraction"], 1.0)]
    if signals["imports"] is not None:
        parts.append(min(signals["known_imports"] or 0, _KNOWN_IMPORTS) / _KNOWN_IMPORTS)
    return parts


def prefer(signals: Measured) -> float:
    """Scores a document by its signals, 0 to 1.

    The mean of the criteria that apply to its language, each from 0 to 1: it parses; its functions have two to eight
    paths; it has some comments; it imports up to three well-known libraries; linters find little; it has 20 to 800
    lines.

    Source:
        CodeShell's report, section 2.1, names the traits without weights; the bands are ours.
    """
    parts = _judge_cheaply(signals)
    if signals["parses"] is not None:
        parts += [float(signals["parses"]), _band(signals["comment_fraction"] or 0.0, _COMMENTS)]
        parts.append(_band(signals["complexity"] or 0.0, _COMPLEXITY) if signals["functions"] else 0.5)
    faults = signals["style_faults"] + (signals["faults"] or 0) + (signals["syntax_faults"] or 0)
    parts.append(max(0.0, 1 - faults / max(signals["lines"], 1) / _FAULTS_PER_LINE))
    return sum(parts) / len(parts)


def _band(value: float, corners: tuple[float, float, float, float]) -> float:
    """1 between the inner corners, falling to 0 at the outer ones."""
    low, good_from, good_to, high = corners
    if value < good_from:
        return max(0.0, (value - low) / (good_from - low))
    return 1.0 if value <= good_to else max(0.0, (high - value) / (high - good_to))
