"""Results as tables, comparisons and curves."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from ..manifest import list_versions
from ..text.intervals import change_interval, correct_for_number, paired_probability
from .contamination import describe_touched
from .published import find_reported
from .results import ModelResult
from .scores import Measure, Score, mean_by_base
from .tasks import Task

MEASURES_SHOWN = 3
COMPARED = {"pass@1", "exact match", "right tests", "accuracy", "strict-match"}  # shares of correct answers
ALLOWED_DEVIATIONS = {"samples"}  # which change no expected value
SIGNIFICANT = 0.05


@dataclass
class ReportRow:
    """A row of the table of benchmarks: a measure of each model, and the technical report's in percent.

    Args:
        name: Of the data, by their published name only if they are a benchmark's, and of the measure.
        benchmark: The published benchmark, if the data are all of its problems; else empty.
        dataset: Its name on the Hub.
    """

    name: str
    models: dict[str, Measure] = field(default_factory=dict)
    published: float | None = None
    benchmark: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class ModelChange:
    """The change in correct answers against the first model, on the problems of both, with its 95 % interval.

    Args:
        better: Problems with more right answers than before.
        worse: Problems with fewer.
        probability: Of a change as large by chance, by an exact paired test.
        corrected: The same, corrected for the number of comparisons.
    """

    task: str
    model: str
    against: str
    problems: int
    change: float
    low: float
    high: float
    better: int = 0
    worse: int = 0
    probability: float = 1.0
    corrected: float = 1.0


def list_rows(models: Mapping[str, ModelResult], tasks: Iterable[Task]) -> list[ReportRow]:
    """Lists the rows of the table of benchmarks."""
    protocols = {task.name: task.profile.name for task in tasks if not set(task.deviations) - ALLOWED_DEVIATIONS}
    rows: dict[str, ReportRow] = {}
    for model, result in models.items():
        for task, score in result.tasks.items():
            is_multilingual = len(score.languages) > 1
            for place, (name, measure) in enumerate(list(score.measures.items())[:MEASURES_SHOWN]):
                by_language = score.languages.items() if is_multilingual and place == 0 else ()
                cells = [("", measure), *((f" {of}", own[name]) for of, own in by_language if name in own)]
                for suffix, cell in cells:
                    named = score.shown_name
                    label = f"{named.title or task}{suffix}: {name}"
                    language = suffix.strip() or ("" if is_multilingual else next(iter(score.languages), ""))
                    row = rows.setdefault(label, ReportRow(label, benchmark=named.benchmark, dataset=named.dataset))
                    row.models[model] = cell
                    if name in ("pass@1", "exact match"):
                        row.published = find_reported(protocols.get(task, ""), named.benchmark, language)
    return list(rows.values())


def list_changes(models: Mapping[str, ModelResult]) -> list[ModelChange]:
    """Compares every model with the first one on the same problems, by exact tests, corrected over tasks and models."""
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
                better = sum(after > before for before, after in zip(old, new, strict=True))
                worse = sum(after < before for before, after in zip(old, new, strict=True))
                title = score.shown_name.title or task
                changes.append(
                    ModelChange(
                        title, name, first, len(both), round(change, 4), round(low, 4), round(high, 4),
                        better, worse, paired_probability(old, new),
                    )
                )  # fmt: skip
    corrected = correct_for_number([change.probability for change in changes])
    return [replace(change, corrected=value) for change, value in zip(changes, corrected, strict=True)]


def list_notes(models: Mapping[str, ModelResult], tasks: Iterable[Task]) -> list[str]:
    """A line for each task on its problems that touch the training data."""
    sizes = {task.name: len(task.problems) for task in tasks if task.profile.measure != "memorisation"}
    lines = []
    for name in dict.fromkeys(name for result in models.values() for name in result.tasks):
        scores = {model: result.tasks[name] for model, result in models.items() if name in result.tasks}
        score = next(iter(scores.values()))
        if name in sizes or name in ("mmlu", "gsm8k"):
            size = sizes.get(name) or score.counts.get("problems", 0)
            lines.append(describe_touched(score.shown_name.title or name, size, scores))
    return lines


def _list_shares(score: Score) -> dict[tuple[str, str], float]:
    keys = [(row["language"], row.get("base", row["id"])) for row in score.problems]
    shares = mean_by_base([row["right"] / row["samples"] for row in score.problems], [str(key) for key in keys])
    return dict(zip(dict.fromkeys(keys), shares, strict=True))


def summarise(
    models: Mapping[str, ModelResult], tasks: Iterable[Task], trigram_bits_per_byte: float | None
) -> dict[str, object]:
    """The results for manifest, card and page."""
    values: dict[str, object] = {}
    if trigram_bits_per_byte is not None:
        values["byte_trigram_bits_per_byte"] = trigram_bits_per_byte
    values |= {name: result.to_summary() for name, result in models.items()}
    tasks = list(tasks)
    rows = [asdict(row) for row in list_rows(models, tasks)]
    return {**values, "table": rows, "contamination": list_notes(models, tasks)}


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
    tasks = list(tasks)
    lines = [] if trigram_bits_per_byte is None else _format_bits(models, trigram_bits_per_byte)
    lines += _format_tasks(models, list_rows(models, tasks), list_changes(models))
    return lines + list_notes(models, tasks)


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
    has_reported = any(row.published is not None for row in rows)
    width = max(44, *(len(row.name) + 2 for row in rows))
    head = f"{'percent, 95 % interval':<{width}}" + "".join(f"{name:>22}" for name in models)
    lines = [head + (f"{'the report':>12}" if has_reported else "")]
    for row in rows:
        cells = "".join(f"{_format_cell(row.models.get(name)):>22}" for name in models)
        published = "" if row.published is None else f"{row.published:.2f}"
        lines.append(f"{row.name:<{width}}{cells}{published:>12}".rstrip())
    changes = list(changes)
    for change in changes:
        if change.corrected < SIGNIFICANT:
            interval = f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
            lines.append(
                f"{change.task}: {change.model} {100 * change.change:+.1f} {interval} against {change.against} "
                f"({change.better} better, {change.worse} worse of {change.problems}; p {change.corrected:.2g})"
            )
    if changes and all(change.corrected >= SIGNIFICANT for change in changes):
        lines.append(f"no change against {changes[0].against} can be told from chance")
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
                curves.setdefault(f"{score.shown_name.title or task}: {measure}", []).append(
                    (step, cell.value, cell.low, cell.high)
                )
    return curves
