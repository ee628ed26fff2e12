"""The report of curation as one HTML file with its pictures in it, and as JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from ..manifest import write_text
from .options import Outcome
from .rules import RULES, Rules
from .verdicts import KEPT
from .writing import BINS, HISTOGRAMS

PAGE, DATA = "report.html", "report.json"
_WIDTH, _HEIGHT = 320, 90


def write_report(outcome: Outcome, rules: Rules, folder: Path, *, title: str, unit: str) -> None:
    """Writes `report.html` and `report.json`.

    Args:
        outcome: What came of the run.
        rules: The thresholds, to be drawn into the histograms.
        folder: Where to.
        title: What the corpus is called by.
        unit: What tokens are counted as.
    """
    counts = outcome.funnel.counts()
    histograms = {name: _describe(name, found, rules) for name, found in outcome.histograms.items()}
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
    write_text(folder / PAGE, template.render(**values, drawings=_draw_all(histograms), kept=KEPT))


def _describe(name: str, found: list[list[int]], rules: Rules) -> dict[str, Any]:
    low, high, is_log = HISTOGRAMS[name]
    places = [place / BINS for place in range(BINS + 1)]
    edges = [low * (high / low) ** place if is_log else low + (high - low) * place for place in places]
    thresholds = {
        rule: value
        for rule, (_, signal) in RULES.items()
        if signal == name
        and isinstance(value := getattr(rules.general, rule), int | float)
        and not isinstance(value, bool)
    }
    return {
        "edges": [round(edge, 4) for edge in edges],
        "kept": found[0],
        "dropped": found[1],
        "thresholds": thresholds,
        "is_log": is_log,
    }


def _draw_all(histograms: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, **_draw(found)}
        for name, found in histograms.items()
        if sum(found["kept"]) + sum(found["dropped"])
    ]


def _draw(found: dict[str, Any]) -> dict[str, Any]:
    """Rectangles and lines of one histogram, in the units of its drawing."""
    tallest = max(map(sum, zip(found["kept"], found["dropped"], strict=True))) or 1
    width = _WIDTH / BINS
    bars = []
    for place, (kept, dropped) in enumerate(zip(found["kept"], found["dropped"], strict=True)):
        # The root, so that few documents are seen beside many.
        whole = math.sqrt((kept + dropped) / tallest) * _HEIGHT
        part = whole * kept / max(kept + dropped, 1)
        bars.append({"x": place * width, "width": width - 0.6, "kept": part, "whole": whole, "count": kept + dropped})
    low, high = found["edges"][0], found["edges"][-1]
    lines = []
    for rule, value in found["thresholds"].items():
        clipped = min(max(value, low), high)
        share = math.log(clipped / low) / math.log(high / low) if found["is_log"] else (clipped - low) / (high - low)
        lines.append({"x": share * _WIDTH, "label": f"{rule} {value:,}"})
    middle = found["edges"][BINS // 2]
    return {"bars": bars, "lines": lines, "ticks": [f"{value:,.4g}" for value in (low, middle, high)]}
