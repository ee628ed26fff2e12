"""Puts training runs side by side on one page: their curves on held-out documents, and their scores.

python -m recipes.compare random/pretrain quality/pretrain --output comparison.html
python -m recipes.compare random/pretrain quality/pretrain --scores evaluate --output comparison.html
"""

import html
import json
import sys
from pathlib import Path
from typing import Any

from codeshell_hf.stages.process import make_parser, run

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1c2330}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}td,th{{padding:.25rem .8rem;text-align:right;
border-bottom:1px solid #d9dee8}}td:first-child,th:first-child{{text-align:left}}svg{{width:100%;height:auto}}</style>
</head><body><h1>{title}</h1>{curves}{tables}</body></html>
"""


def main(arguments: list[str] | None = None) -> int:
    """Writes the page and prints the scores.

    Args:
        arguments: The command line; by default this process's.

    Returns:
        0 done, 2 called wrongly.
    """
    parser = make_parser("compare", __doc__)
    parser.add_argument(
        "runs", type=Path, nargs="+", help="output folders of pretrain, named by the folder they lie in"
    )
    parser.add_argument("--scores", type=Path, help="output of evaluate over the same models")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    options = parser.parse_args(arguments)
    return run("compare", lambda: compare(options.runs, options.scores, options.output))


def compare(runs: list[Path], scores: Path | None, output: Path) -> None:
    """Draws runs side by side.

    Args:
        runs: Outputs of `pretrain`.
        scores: Output of `evaluate`, or `None`.
        output: The page.

    Raises:
        DataError: If a folder holds no finished run, or the runs were not trained alike.
    """
    from codeshell_hf.errors import DataError
    from codeshell_hf.manifest import require_manifest, write_text
    from codeshell_hf.publish.figures import draw_runs, to_svg

    logs: dict[str, list[dict[str, Any]]] = {}
    alike: dict[str, Any] = {}
    for folder in runs:
        manifest = require_manifest(folder, "pretrain")
        name = folder.parent.name
        if name in logs:
            raise DataError(f"two runs lie in a folder called {name}; name runs whose folders differ")
        logs[name] = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        # What may differ is what they read and where they write.
        alike[name] = {key: value for key, value in manifest.settings.items() if key not in ("shards", "output")}
    first, *others = alike
    for name in others:
        differing = sorted(key for key in alike[first] if alike[first][key] != alike[name].get(key))
        if differing:
            raise DataError(f"{first} and {name} were not trained alike: {', '.join(differing)} differ")
    rows = {name: log[-1]["bits_per_byte"] for name, log in read_measured(logs).items()}
    tables = [make_table("Bits per byte on held-out documents, at the end of training", rows)]
    if scores is not None:
        measures = require_manifest(scores, "evaluate").measures
        tables += make_score_tables({name: found for name, found in measures.items() if isinstance(found, dict)})
    title = " against ".join(logs)
    page = PAGE.format(title=html.escape(title), curves=to_svg(draw_runs(logs)), tables="".join(tables))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)
    for name, values in rows.items():
        print(f"{name:<12} {values['all']:.4f} bits per byte after {logs[name][-1]['tokens']:,} tokens")
    print(f"wrote {output}")


def read_measured(logs: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The entries of each log that were measured on held-out documents.

    Args:
        logs: By run.

    Returns:
        Entries with `bits_per_byte`, by run.
    """
    return {name: [entry for entry in log if "bits_per_byte" in entry] for name, log in logs.items()}


def make_score_tables(measures: dict[str, dict[str, Any]]) -> list[str]:
    """Makes a table of each score that evaluation gave.

    Args:
        measures: By model and score.

    Returns:
        HTML.
    """
    tables = []
    for kind, title in (("bits_per_byte", "Bits per byte, as evaluate measures it"), ("infilling", "Infilling, exact")):
        rows = {}
        for name, found in measures.items():
            if kind in found:
                values = found[kind]
                rows[name] = {
                    language: value["exact_match"] if isinstance(value, dict) else value
                    for language, value in values.items()
                }
        if rows:
            tables.append(make_table(title, rows))
    return tables


def make_table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Makes an HTML table.

    Args:
        title: What it shows.
        rows: Values by language, by run.

    Returns:
        HTML.
    """
    columns = list(next(iter(rows.values())))
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{values.get(column, float('nan')):.4f}</td>" for column in columns)
        + "</tr>"
        for name, values in rows.items()
    )
    return f"<h2>{html.escape(title)}</h2><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


if __name__ == "__main__":
    sys.exit(main())
