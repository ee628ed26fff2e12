"""A page that compares training runs: curves on held-out documents, and scores."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from ..manifest import Values, read_json_lines, require_manifest, write_text
from .figures import draw_runs, to_svg

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1c2330}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}td,th{{padding:.25rem .8rem;text-align:right;
border-bottom:1px solid #d9dee8}}td:first-child,th:first-child{{text-align:left}}svg{{width:100%;height:auto}}</style>
</head><body><h1>{title}</h1>{curves}{tables}</body></html>
"""
FREE = ("shards", "output")  # settings in which compared runs may differ
SCORES = {"bits_per_byte": "Bits per byte, as evaluate measures it", "infilling": "Infilling, exact"}


def compare_runs(runs: Sequence[Path], scores: Path | None, output: Path) -> list[str]:
    """Writes the page.

    Args:
        runs: Outputs of `pretrain`; each is named after its parent folder.
        scores: Output of `evaluate` over the same models, or `None`.
        output: The page.

    Returns:
        One line per run with its final bits per byte.

    Raises:
        DataError: If a folder has no finished run, or settings other than `FREE` differ.
    """
    logs = read_logs(runs)
    final = {name: entries[-1]["bits_per_byte"] for name, entries in select_measured(logs).items()}
    tables = [make_table("Bits per byte on held-out documents, at the end of training", final)]
    if scores is not None:
        measures = require_manifest(scores, "evaluate").measures
        tables += make_score_tables({name: found for name, found in measures.items() if isinstance(found, dict)})
    title = " against ".join(logs)
    page = PAGE.format(title=html.escape(title), curves=to_svg(draw_runs(logs)), tables="".join(tables))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)
    return [
        f"{name:<12} {values['all']:.4f} bits per byte after {logs[name][-1]['tokens']:,} tokens"
        for name, values in final.items()
    ]


def read_logs(runs: Sequence[Path]) -> dict[str, list[Values]]:
    """The logs of comparable runs, by the name of each run's parent folder.

    Raises:
        DataError: If two have the same name, one is not finished, or settings other than `FREE` differ.
    """
    logs: dict[str, list[Values]] = {}
    settings: dict[str, Values] = {}
    for folder in runs:
        manifest = require_manifest(folder, "pretrain")
        name = folder.parent.name
        if name in logs:
            raise DataError(f"two runs are in folders called {name}; name runs in differently named folders")
        logs[name] = read_json_lines(folder / "log.jsonl")
        settings[name] = {key: value for key, value in manifest.settings.items() if key not in FREE}
    first, *others = settings
    for name in others:
        differing = sorted(key for key in settings[first] if settings[first][key] != settings[name].get(key))
        if differing:
            raise DataError(
                f"{first} and {name} are not comparable: {', '.join(differing)} differ; give them the same settings"
            )
    return logs


def select_measured(logs: Mapping[str, Sequence[Values]]) -> dict[str, list[Values]]:
    """The entries of each log with held-out measurements."""
    return {name: [entry for entry in log if "bits_per_byte" in entry] for name, log in logs.items()}


def make_score_tables(measures: Mapping[str, Values]) -> list[str]:
    """An HTML table of each score, from measures by model and score."""
    tables = []
    for kind, title in SCORES.items():
        rows = {
            name: {
                language: value["exact_match"] if isinstance(value, dict) else value
                for language, value in found[kind].items()
            }
            for name, found in measures.items()
            if kind in found
        }
        if rows:
            tables.append(make_table(title, rows))
    return tables


def make_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """An HTML table of values by run and language."""
    columns = list(next(iter(rows.values())))
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{values.get(column, float('nan')):.4f}</td>" for column in columns)
        + "</tr>"
        for name, values in rows.items()
    )
    return f"<h2>{html.escape(title)}</h2><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
