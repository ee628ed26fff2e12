"""The results of evaluation as tables, comparisons and curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MEASURES_SHOWN = 3
COMPARED = {"pass@1", "exact match", "right tests"}  # shares of right answers


def shorten(result: dict[str, Any]) -> dict[str, Any]:
    """What of a model's results goes into the manifest, the card and the page.

    Args:
        result: All of it.

    Returns:
        Without single problems and samples.
    """
    tasks = {
        name: {"measures": values["measures"], "languages": values["languages"], "counts": values["counts"]}
        for name, values in result["tasks"].items()
    }
    return {**{key: value for key, value in result.items() if key not in ("samples", "tasks")}, "tasks": tasks}


def format_results(results: dict[str, Any]) -> list[str]:
    """The tables at the end.

    Args:
        results: Of all models.

    Returns:
        Lines.
    """
    lines: list[str] = []
    if "byte_trigram" in results["baselines"]:
        lines += [
            f"{'model':<14}{'bits/byte':>10}{'95 % interval':>18}{'lines filled in':>18}",
            f"{'byte trigram':<14}{results['baselines']['byte_trigram']:>10.3f}",
        ]
        for name, result in results["models"].items():
            if "bits_per_byte" not in result:
                continue
            low, high = result["bits_per_byte_interval"]["all"]
            lines.append(
                f"{name:<14}{result['bits_per_byte']['all']:>10.3f}{f'[{low:.3f}, {high:.3f}]':>18}"
                + (f"{result['infilling']['all']['exact']} of {result['infilling']['all']['tasks']}".rjust(18)
                   if "infilling" in result else "")
            )  # fmt: skip
    return lines + format_tasks(results)


def format_tasks(results: dict[str, Any]) -> list[str]:
    """The table of benchmarks: a row a task and language, a column a model, and the report's own figure.

    Args:
        results: Of all models.

    Returns:
        Lines.
    """
    rows = list_rows(results)
    if not rows:
        return []
    names = list(results["models"])
    lines = [f"{'percent, 95 % interval':<44}" + "".join(f"{name:>22}" for name in names) + f"{'the report':>12}"]
    for row in rows:
        cells = "".join(
            f"{'-' if (cell := row['models'].get(name)) is None else format_cell(cell):>22}" for name in names
        )
        published = "" if row["published"] is None else f"{row['published']:.2f}"
        lines.append(f"{row['name']:<44}{cells}{published:>12}")
    for row in results["changes"]:
        if row["low"] > 0 or row["high"] < 0:  # told from chance
            interval = f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
            lines.append(
                f"{row['task']}: {row['model']} {100 * row['change']:+.1f} {interval} against {row['against']}"
            )
    for name, result in results["models"].items():
        for task, values in result["tasks"].items():
            if missing := values["missing_toolchains"]:
                untold = ", ".join(f"{count} in {language}" for language, count in missing.items())
                lines.append(f"{name}: {task} has problems that were not judged, for want of a toolchain: {untold}")
    return lines


def list_changes(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Compares every model with the first one, on the same problems.

    Args:
        results: Of all models.

    Returns:
        A row a task and model: `change` of the share of right answers, and its interval, `low` to `high`.
    """
    from codeshell_hf.text.intervals import change_interval

    first, *others = results["models"]
    rows = []
    for name in others:
        for task, values in results["models"][name]["tasks"].items():
            if not COMPARED & set(values["measures"]):
                continue
            before = results["models"][first]["tasks"].get(task, {"problems": []})["problems"]
            shares = [
                {(row["language"], row["id"]): row["right"] / row["samples"] for row in problems}
                for problems in (before, values["problems"])
            ]
            both = [key for key in shares[0] if key in shares[1]]
            if both:
                old, new = ([share[key] for key in both] for share in shares)
                low, high = change_interval(old, new)
                change = (sum(new) - sum(old)) / len(both)
                rows.append({
                    "task": task, "model": name, "against": first, "problems": len(both),
                    "change": round(change, 4), "low": round(low, 4), "high": round(high, 4),
                })  # fmt: skip
    return rows


def format_cell(cell: Mapping[str, float]) -> str:
    """A figure with its interval.

    Args:
        cell: `value`, `low` and `high`, 0 to 1.

    Returns:
        In percent.
    """
    return f"{100 * cell['value']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def list_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Lists the rows of the table of benchmarks.

    Args:
        results: Of all models.

    Returns:
        `name`, `models` with a measure each, and what the report `published` of CodeShell-7b.
    """
    from codeshell_hf.evaluate.published import find_published

    rows: dict[str, dict[str, Any]] = {}
    for model, result in results["models"].items():
        for task, values in result["tasks"].items():
            profile = results["tasks"].get(task, {}).get("profile", {}).get("name", task)
            several = len(values["languages"]) > 1
            for place, (name, measured) in enumerate(list(values["measures"].items())[:MEASURES_SHOWN]):
                by_language = values["languages"].items() if several and place == 0 else ()
                cells = [("", measured), *((f" {of}", own[name]) for of, own in by_language if name in own)]
                for language, cell in cells:
                    label = f"{task}{language}: {name}"
                    only = language.strip() or ("" if several else next(iter(values["languages"]), ""))
                    row = rows.setdefault(label, {"name": label, "models": {}, "published": None})
                    row["models"][model] = cell
                    if name in ("pass@1", "exact match"):
                        row["published"] = find_published(profile, only, cell["problems"])
    return list(rows.values())


def draw_sweep(sweep: Path, results: dict[str, Any], output: Path) -> None:
    """Draws every measure over the checkpoints of a run.

    Args:
        sweep: The folder of checkpoints.
        results: Of all models.
        output: The figure.
    """
    from codeshell_hf.publish.figures import draw_sweep as draw
    from codeshell_hf.publish.figures import save_figure

    names = [path.name for path in sorted(sweep.iterdir())]
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for place, name in enumerate(name for name in names if name in results["models"]):
        digits = "".join(character for character in name if character.isdigit())
        step = int(digits) if digits else place
        result = results["models"][name]
        if "bits_per_byte" in result:
            low, high = result["bits_per_byte_interval"]["all"]
            curves.setdefault("bits per byte", []).append((step, result["bits_per_byte"]["all"], low, high))
        for task, values in result["tasks"].items():
            for measure, cell in list(values["measures"].items())[:1]:
                point = (step, cell["value"], cell["low"], cell["high"])
                curves.setdefault(f"{task}: {measure}", []).append(point)
    save_figure(draw(curves), output)
