"""All measures of one model, and the tasks that they are taken on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..text.documents import read_documents
from .contamination import TrainingData, add_clean, mark_touched
from .harness import list_questions, score_harness
from .held_out_files import HeldOutFiles, fill_in_lines, score_bits_per_byte
from .memorisation import take_beginnings
from .models import EvaluatedModel
from .published import disambiguate_titles
from .results import ModelResult, ResultCache
from .settings import HarnessSettings, MemorisationSettings, TaskSettings
from .tasks import Task, make_task, read_task, score_task


def read_tasks(
    tasks: Mapping[str, TaskSettings], memorisation: MemorisationSettings | None, documents: Path | None
) -> list[Task]:
    """Reads the benchmarks, and the beginnings of training files where memorisation is measured."""
    read = [read_task(name, task) for name, task in tasks.items()]
    names = disambiguate_titles({task.name: task.shown_name for task in read})
    read = [replace(task, shown_name=names[task.name]) for task in read]
    if memorisation is not None and documents is not None:
        training = read_documents(documents, split="train", columns=["id", "language", "text"])
        beginnings = take_beginnings(training, memorisation)
        read.append(make_task("memorisation", "memorisation-v1", beginnings, str(documents)))
    return read


def search_training_data(
    tasks: Sequence[Task], harness: HarnessSettings | None, training: TrainingData, cache: ResultCache
) -> tuple[list[Task], dict[str, frozenset[str]]]:
    """Finds the problems that touch the training data, of the tasks and of the harness' benchmarks."""
    return mark_touched(tasks, list_questions(harness) if harness is not None else {}, training, cache)


def measure_model(
    model: EvaluatedModel,
    tasks: Sequence[Task],
    cache: ResultCache,
    *,
    held_out: HeldOutFiles | None = None,
    lines: Task | None = None,
    harness: HarnessSettings | None = None,
    touched: Mapping[str, frozenset[str]] | None = None,
    seed: int = 0,
) -> ModelResult:
    """Measures everything that a model can be measured on.

    Bits per byte and the harness need a model in memory, the other measures answers or programs.

    Args:
        lines: Held-out lines to fill in.
        touched: Questions of the harness that touch the training data, by benchmark; those of tasks are theirs.
    """
    result = ModelResult(model.describe())
    if held_out is not None and model.model is not None:
        result.bits_per_byte, result.bits_per_byte_interval = score_bits_per_byte(model, held_out, cache)
    if lines is not None and model.generator is not None:
        result.infilling, result.samples = fill_in_lines(model, lines, cache.folder, seed=seed)
    for task in tasks:
        if (score := score_task(model, task, cache, seed=seed)) is not None:
            score.shown_name = task.shown_name
            result.tasks[task.name] = add_clean(score, task.touched)
    if harness is not None and model.model is not None:
        for name, score in score_harness(model, harness, cache).items():
            result.tasks[name] = add_clean(score, (touched or {}).get(name))
    return result
