"""The report of curation as a self-contained HTML file and as JSON."""

import json
import math
from pathlib import Path
from typing import TypedDict

from jinja2 import Environment, FileSystemLoader, select_autoescape

from ..manifest import write_text
from .report import Histogram, Outcome
from .rules import RULES
from .settings import Rules
from .verdicts import KEPT
from .writing import BINS, HISTOGRAMS

PAGE, DATA = "report.html", "report.json"
_WIDTH, _HEIGHT = 320, 90


def write_report(outcome: Outcome, rules: Rules, folder: Path, *, title: str, unit: str) -> None:
    """Writes `report.html` and `report.json`, with the thresholds of the rules in the histograms.

    Args:
        unit: What is counted as tokens.
    """
    counts = outcome.funnel.counts()
    histograms = {name: _describe(name, histogram, rules) for name, histogram in outcome.histograms.items()}
    drawings = [_draw(name, found) for name, found in histograms.items() if any(found["kept"] + found["dropped"])]
    values = {
        "title": title,
        "unit": unit,
        "counts": counts,
        "steps": outcome.steps,
        "reasons": outcome.funnel.reasons(),
        "histograms": histograms,
        "examples": outcome.examples,
        "placeholders": outcome.placeholders,
        "measures": outcome.measures,
    }
    write_text(folder / DATA, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.filters["megabytes"] = lambda size: f"{size / 1e6:,.2f}"
    template = environment.get_template("page.html.jinja")
    write_text(folder / PAGE, template.render(**values, drawings=drawings, kept=KEPT))


class _Described(TypedDict):
    edges: list[float]
    kept: list[int]
    dropped: list[int]
    thresholds: dict[str, float]
    is_log: bool


class _Bar(TypedDict):
    x: float
    width: float
    kept: float
    whole: float
    count: int


class _Line(TypedDict):
    x: float
    label: str


class _Drawing(TypedDict):
    name: str
    bars: list[_Bar]
    lines: list[_Line]
    ticks: list[str]


def _describe(name: str, histogram: Histogram, rules: Rules) -> _Described:
    low, high, is_log = HISTOGRAMS[name]
    places = [place / BINS for place in range(BINS + 1)]
    edges = [low * (high / low) ** place if is_log else low + (high - low) * place for place in places]
    thresholds = {
        rule: value
        for rule, (_, signal) in RULES.items()
        if signal == name and isinstance(value := getattr(rules, rule), int | float) and not isinstance(value, bool)
    }
    return {
        "edges": [round(edge, 4) for edge in edges],
        "kept": histogram[0],
        "dropped": histogram[1],
        "thresholds": thresholds,
        "is_log": is_log,
    }


def _draw(name: str, described: _Described) -> _Drawing:
    """Rectangles and lines of one histogram, in the units of its drawing."""
    tallest = max(map(sum, zip(described["kept"], described["dropped"], strict=True))) or 1
    width = _WIDTH / BINS
    bars: list[_Bar] = []
    for place, (kept, dropped) in enumerate(zip(described["kept"], described["dropped"], strict=True)):
        # The square root, so that small bars stay visible.
        whole = math.sqrt((kept + dropped) / tallest) * _HEIGHT
        part = whole * kept / max(kept + dropped, 1)
        bars.append({"x": place * width, "width": width - 0.6, "kept": part, "whole": whole, "count": kept + dropped})
    low, high = described["edges"][0], described["edges"][-1]
    lines: list[_Line] = []
    for rule, value in described["thresholds"].items():
        clipped = min(max(value, low), high)
        is_log = described["is_log"]
        share = math.log(clipped / low) / math.log(high / low) if is_log else (clipped - low) / (high - low)
        lines.append({"x": share * _WIDTH, "label": f"{rule} {value:,}"})
    ticks = [f"{value:,.4g}" for value in (low, described["edges"][BINS // 2], high)]
    return {"name": name, "bars": bars, "lines": lines, "ticks": ticks}
