"""All measures of one model, and the tasks that they are taken on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..text.documents import read_documents
from .harness import score_harness
from .held_out_files import HeldOutFiles, fill_in_lines, score_bits_per_byte
from .memorisation import take_beginnings
from .models import EvaluatedModel
from .results import ModelResult, ResultCache
from .settings import HarnessSettings, MemorisationSettings, TaskSettings
from .tasks import Task, make_task, read_task, score_task


def read_tasks(
    tasks: Mapping[str, TaskSettings], memorisation: MemorisationSettings | None, documents: Path | None
) -> list[Task]:
    """Reads the benchmarks, and the beginnings of training files where memorisation is measured."""
    read = [read_task(name, task) for name, task in tasks.items()]
    if memorisation is not None and documents is not None:
        training = read_documents(documents, split="train", columns=["id", "language", "text"])
        beginnings = take_beginnings(training, memorisation)
        read.append(make_task("memorisation", "memorisation-v1", beginnings, str(documents)))
    return read


def measure_model(
    model: EvaluatedModel,
    tasks: Sequence[Task],
    cache: ResultCache,
    *,
    held_out: HeldOutFiles | None = None,
    lines: Task | None = None,
    harness: HarnessSettings | None = None,
    seed: int = 0,
) -> ModelResult:
    """Measures everything that a model can be measured on.

    Bits per byte and the harness need a model in memory, the other measures answers or programs.

    Args:
        lines: Held-out lines to fill in.
    """
    result = ModelResult(model.describe())
    if held_out is not None and model.model is not None:
        result.bits_per_byte, result.bits_per_byte_interval = score_bits_per_byte(model, held_out, cache)
    if lines is not None and model.generator is not None:
        result.infilling, result.samples = fill_in_lines(model, lines, cache.folder, seed=seed)
    for task in tasks:
        if (score := score_task(model, task, cache, seed=seed)) is not None:
            result.tasks[task.name] = score
    if harness is not None and model.model is not None:
        result.tasks |= score_harness(model, harness, cache)
    return result
