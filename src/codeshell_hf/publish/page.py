"""The page of a run: a technical report in one HTML file, filled from manifests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..manifest import Values, read_json_lines
from .card import fill_template
from .figures import (
    INK,
    draw_calibration,
    draw_evaluation,
    draw_funnel,
    draw_loss,
    draw_rewards,
    draw_schedule,
    draw_sizes,
    draw_tuning,
    to_svg,
)

TEMPLATE = Path(__file__).parent / "page.html.jinja"


def make_page(values: Values, stages: Mapping[str, Path]) -> str:
    """Makes the page, one self-contained HTML file.

    Args:
        values: As for the card; `published` names the described model.
        stages: The outputs of the stages, by name, for their logs.

    Raises:
        DataError: If it names a figure that no stage measured.
    """
    log = read_json_lines(stages["pretrain"] / "log.jsonl")
    results = _read_json(stages["evaluate"] / "results.json")
    figures = {
        "funnel": draw_funnel(values["curate"]),
        "sizes": draw_sizes(values["curate"]["languages"]),
        "loss": draw_loss(log),
        "schedule": draw_schedule(log),
        "evaluation": draw_evaluation(values["models"], values["byte_trigram"]),
    }
    if "sft" in stages:
        figures["tuning"] = draw_tuning(_read_json(stages["sft"] / "log.json"))
    if "reward" in stages:
        figures["calibration"] = draw_calibration(values["reward"]["calibration"])
    if "rlhf" in stages:
        names = [reward["kind"] for reward in values["manifests"]["rlhf"].settings["rewards"]]
        figures["rewards"] = draw_rewards(_read_json(stages["rlhf"] / "log.json"), names)
    published = values["models"][values["published"]]
    shown = {
        **values,
        # Black lines follow the page's text colour, on light and dark backgrounds.
        "figures": {name: to_svg(figure).replace(INK, "var(--dim)") for name, figure in figures.items()},
        "languages": [name for name in published["bits_per_byte"] if name != "all"],
        "lengths": _list_lengths(log),
        "infilled": results["models"][values["published"]]["samples"],
    }
    return fill_template(TEMPLATE.read_text(encoding="utf-8"), shown, source="the page", is_html=True)


def _list_lengths(log: list[Values]) -> list[dict[str, int]]:
    """The phases of the row-length schedule as they ran: row length, and the tokens at which each ended."""
    phases: list[dict[str, int]] = []
    for entry in log:
        if "row_tokens" not in entry:
            continue
        if not phases or phases[-1]["row_tokens"] != entry["row_tokens"]:
            phases.append({"row_tokens": entry["row_tokens"], "until_tokens": 0})
        phases[-1]["until_tokens"] = entry["tokens"]
    return phases


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
