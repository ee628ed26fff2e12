"""Results as tables, comparisons and curves."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ..manifest import list_versions
from ..text.intervals import change_interval
from .published import find_published
from .results import ModelResult
from .scores import Measure, Score
from .tasks import Task

MEASURES_SHOWN = 3
COMPARED = {"pass@1", "exact match", "right tests"}  # shares of correct answers


@dataclass
class ReportRow:
    """A row of the table of benchmarks: a measure of each model, and the technical report's in percent."""

    name: str
    models: dict[str, Measure] = field(default_factory=dict)
    published: float | None = None


@dataclass(frozen=True)
class ModelChange:
    """The change in correct answers against the first model, on the problems of both, with its 95 % interval."""

    task: str
    model: str
    against: str
    problems: int
    change: float
    low: float
    high: float


def list_rows(models: Mapping[str, ModelResult], tasks: Iterable[Task]) -> list[ReportRow]:
    """Lists the rows of the table of benchmarks."""
    profiles = {task.name: task.profile.name for task in tasks}
    rows: dict[str, ReportRow] = {}
    for model, result in models.items():
        for task, score in result.tasks.items():
            is_multilingual = len(score.languages) > 1
            for place, (name, measure) in enumerate(list(score.measures.items())[:MEASURES_SHOWN]):
                by_language = score.languages.items() if is_multilingual and place == 0 else ()
                cells = [("", measure), *((f" {of}", own[name]) for of, own in by_language if name in own)]
                for suffix, cell in cells:
                    label = f"{task}{suffix}: {name}"
                    language = suffix.strip() or ("" if is_multilingual else next(iter(score.languages), ""))
                    row = rows.setdefault(label, ReportRow(label))
                    row.models[model] = cell
                    if name in ("pass@1", "exact match"):
                        row.published = find_published(profiles.get(task, task), language, cell.problems)
    return list(rows.values())


def list_changes(models: Mapping[str, ModelResult]) -> list[ModelChange]:
    """Compares every model with the first one on the same problems."""
    first, *others = models
    changes = []
    for name in others:
        for task, score in models[name].tasks.items():
            if not COMPARED & set(score.measures):
                continue
            before = _list_shares(models[first].tasks.get(task, Score()))
            after = _list_shares(score)
            both = [key for key in before if key in after]
            if both:
                old, new = [before[key] for key in both], [after[key] for key in both]
                low, high = change_interval(old, new)
                change = (sum(new) - sum(old)) / len(both)
                changes.append(
                    ModelChange(task, name, first, len(both), round(change, 4), round(low, 4), round(high, 4))
                )
    return changes


def _list_shares(score: Score) -> dict[tuple[str, str], float]:
    return {(row["language"], row["id"]): row["right"] / row["samples"] for row in score.problems}


def summarise(
    models: Mapping[str, ModelResult], tasks: Iterable[Task], trigram_bits_per_byte: float | None
) -> dict[str, object]:
    """The results for manifest, card and page."""
    values: dict[str, object] = {}
    if trigram_bits_per_byte is not None:
        values["byte_trigram_bits_per_byte"] = trigram_bits_per_byte
    values |= {name: result.to_summary() for name, result in models.items()}
    return {**values, "table": [asdict(row) for row in list_rows(models, tasks)]}


def describe_results(
    models: Mapping[str, ModelResult],
    tasks: Iterable[Task],
    trigram_bits_per_byte: float | None,
    *,
    held_out: Mapping[str, int],
    seed: int,
) -> dict[str, object]:
    """All results as plain values, with what produced them."""
    return {
        "baselines": {} if trigram_bits_per_byte is None else {"byte_trigram": trigram_bits_per_byte},
        "held_out": dict(held_out),
        "tasks": {task.name: task.describe() for task in tasks},
        "models": {name: result.to_values() for name, result in models.items()},
        "versions": list_versions(),
        "seed": seed,
        "changes": [asdict(change) for change in list_changes(models)],
    }


def format_report(
    models: Mapping[str, ModelResult], tasks: Iterable[Task], trigram_bits_per_byte: float | None
) -> list[str]:
    """The tables for the terminal."""
    lines = [] if trigram_bits_per_byte is None else _format_bits(models, trigram_bits_per_byte)
    return lines + _format_tasks(models, list_rows(models, tasks), list_changes(models))


def _format_bits(models: Mapping[str, ModelResult], trigram_bits_per_byte: float) -> list[str]:
    lines = [
        f"{'model':<14}{'bits/byte':>10}{'95 % interval':>18}{'lines filled in':>18}",
        f"{'byte trigram':<14}{trigram_bits_per_byte:>10.3f}",
    ]
    for name, result in models.items():
        if not result.bits_per_byte:
            continue
        low, high = result.bits_per_byte_interval["all"]
        line = f"{name:<14}{result.bits_per_byte['all']:>10.3f}{f'[{low:.3f}, {high:.3f}]':>18}"
        if result.infilling:
            lines_of_all = result.infilling["all"]
            line += f"{lines_of_all['exact']} of {lines_of_all['tasks']}".rjust(18)
        lines.append(line)
    return lines


def _format_tasks(
    models: Mapping[str, ModelResult], rows: list[ReportRow], changes: Iterable[ModelChange]
) -> list[str]:
    if not rows:
        return []
    lines = [f"{'percent, 95 % interval':<44}" + "".join(f"{name:>22}" for name in models) + f"{'the report':>12}"]
    for row in rows:
        cells = "".join(f"{_format_cell(row.models.get(name)):>22}" for name in models)
        published = "" if row.published is None else f"{row.published:.2f}"
        lines.append(f"{row.name:<44}{cells}{published:>12}")
    for change in changes:
        if change.low > 0 or change.high < 0:  # significant
            interval = f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
            lines.append(
                f"{change.task}: {change.model} {100 * change.change:+.1f} {interval} against {change.against}"
            )
    for name, result in models.items():
        for task, score in result.tasks.items():
            if score.missing_toolchains:
                missing = ", ".join(f"{count} in {language}" for language, count in score.missing_toolchains.items())
                lines.append(
                    f"{name}: {task} has problems that were not scored, since their toolchain is missing: {missing}"
                )
    return lines


def _format_cell(cell: Measure | None) -> str:
    return "-" if cell is None else f"{100 * cell.value:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def collect_curves(models: Mapping[str, ModelResult]) -> dict[str, list[tuple[int, float, float, float]]]:
    """Collects each task's first measure, and bits per byte, over the checkpoints of a run.

    The step is taken from the digits of a checkpoint's name.

    Returns:
        By measure: step, value, and the bounds of its interval.
    """
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for place, (name, result) in enumerate(models.items()):
        digits = "".join(character for character in name if character.isdigit())
        step = int(digits) if digits else place
        if result.bits_per_byte:
            low, high = result.bits_per_byte_interval["all"]
            curves.setdefault("bits per byte", []).append((step, result.bits_per_byte["all"], low, high))
        for task, score in result.tasks.items():
            for measure, cell in list(score.measures.items())[:1]:
                curves.setdefault(f"{task}: {measure}", []).append((step, cell.value, cell.low, cell.high))
    return curves
