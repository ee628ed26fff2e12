"""Evaluates models on held-out files and on benchmarks, with programs in a sandbox, and for safety.

codeshell evaluate recipes/nano/evaluate.yaml
"""

import gc
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from codeshell_hf.evaluate.settings import (
    BitsPerByteSettings,
    HarnessSettings,
    HeldOutLineSettings,
    LoadingSettings,
    MemorisationSettings,
    ModelSettings,
    PreferenceSettings,
    ProgramSettings,
    TaskSettings,
)
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import InputPath, PrecisionSettings, list_inputs
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf.evaluate.held_out_files import HeldOutFiles
    from codeshell_hf.evaluate.results import ModelResult
    from codeshell_hf.evaluate.tasks import Task


class Settings(StageSettings, SandboxSettings, PrecisionSettings, LoadingSettings):
    """Settings of evaluation."""

    models: dict[str, ModelSettings] = Field(default_factory=dict, description="folders, servers or programs, by name")
    sweep: InputPath | None = Field(default=None, description="folder with a model in each subfolder, such as exports")
    documents: InputPath | None = Field(default=None, description="output of curate")
    shards: InputPath | None = Field(default=None, description="output of pack, with a held-out split")
    bits_per_byte: BitsPerByteSettings | None = Field(default=None, description="bits per byte of held-out files")
    infilling: HeldOutLineSettings | None = Field(default=None, description="single-line infilling in held-out files")
    memorisation: MemorisationSettings | None = Field(default=None, description="training files reproduced verbatim")
    trained_on: tuple[InputPath, ...] = Field(
        default=(), description="further training data, such as conversations, in which problems are searched for"
    )
    tasks: dict[str, TaskSettings] = Field(default_factory=dict, description="benchmarks by name")
    harness: HarnessSettings | None = Field(default=None, description="MMLU and GSM8K in lm-evaluation-harness")
    judge: PreferenceSettings | None = Field(default=None, description="a model that compares two answers")
    kept: Path | None = Field(default=None, description="folder of answers and scores; by default OUTPUT.kept")
    seed: int = Field(default=0, ge=0, description="of sampling, and of the lines to fill in")

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        for name, needs in (
            ("bits_per_byte", (self.documents, self.shards)),
            ("infilling", (self.documents, self.shards)),
            ("memorisation", (self.documents,)),
        ):
            if getattr(self, name) is not None and None in needs:
                raise ValueError(f"{name} is set, but documents or shards is not; name the outputs of curate and pack")
        if self.infilling is not None and self.bits_per_byte is None:
            raise ValueError("infilling is set, but bits_per_byte is not; both read the held-out split: set both")
        for name, model in self.models.items():
            programs = model.programs if isinstance(model, ProgramSettings) else {}
            if unknown := sorted(set(programs) - set(self.tasks)):
                raise ValueError(
                    f"models.{name} has programs of {unknown[0]!r}, which is not among tasks; add it there"
                )
        return self

    @property
    def stored(self) -> Path:
        """The folder of answers and scores, which later runs reuse."""
        return self.kept or self.output.with_name(f"{self.output.name}.kept")


def run(settings: Settings, work: Work) -> None:
    """Evaluates one model after the other, and compares them."""
    from codeshell_hf.dependencies import hash_code
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.evaluate.contamination import TrainingData
    from codeshell_hf.evaluate.held_out_files import HeldOutFiles
    from codeshell_hf.evaluate.judged_preference import PreferenceMeasurement
    from codeshell_hf.evaluate.model_measurement import measure_model, read_tasks, search_training_data
    from codeshell_hf.evaluate.models import list_models, load_model
    from codeshell_hf.evaluate.results import ResultCache
    from codeshell_hf.evaluate.tasks import check_tasks
    from codeshell_hf.stages.precision_choice import read_config, resolve_precision

    documents, shards, sweep, seed = settings.documents, settings.shards, settings.sweep, settings.seed
    bits_per_byte, infilling = settings.bits_per_byte, settings.infilling
    harness, judge, precision = settings.harness, settings.judge, settings.precision
    sources = list_models(settings.models, sweep)
    if not sources:
        raise SettingsError(f"there is no model to evaluate in {sweep or 'models'}; name one under models")
    tasks = read_tasks(settings.tasks, settings.memorisation, documents)
    cache = ResultCache(settings.stored, hash_code(Path(__file__)))
    training = TrainingData(documents, settings.trained_on)
    tasks, touched = search_training_data(tasks, harness, training, cache)
    dtype = "auto"
    if folders := [source for source in sources.values() if isinstance(source, Path)]:
        # Stored answers depend on the precision: auto keeps its first choice, so that no answer is generated twice.
        record_folder = cache.folder if precision == "auto" else None
        dtype = resolve_precision(
            precision, lambda: read_config(folders[0]), work, record_folder=record_folder
        ).compute_dtype
    held_out = lines = None
    if documents is not None and shards is not None and bits_per_byte is not None:
        held_out = HeldOutFiles.read(documents, shards, bits_per_byte)
        if infilling is not None:
            lines = held_out.make_infilling_task(infilling, seed=seed)
    preference = None
    if judge is not None:
        preference = PreferenceMeasurement(judge, list(sources), cache.folder, seed=seed)

    models: dict[str, ModelResult] = {}
    with ExitStack() as stack:
        tasks = check_tasks(tasks, lambda shown: stack.enter_context(settings.open_sandbox(shown)))
        for name, source in sources.items():
            model = load_model(name, source, settings, dtype=dtype)
            models[name] = measure_model(
                model, tasks, cache, held_out=held_out, lines=lines,
                harness=harness, touched=touched, seed=seed,
            )  # fmt: skip
            if preference is not None:
                preference.answer(model)
            del model
            gc.collect()  # frees the memory before the next model is loaded
    if preference is not None:
        for name, score in preference.score().items():
            models[name].tasks["preference"] = score
    write_results(work, models, held_out, tasks, sweep=sweep, seed=seed)


def write_results(
    work: Work,
    models: "dict[str, ModelResult]",
    held_out: "HeldOutFiles | None",
    tasks: "list[Task]",
    *,
    sweep: Path | None,
    seed: int,
) -> None:
    """Writes results.json and the curves of a sweep, and fills manifest and report."""
    from codeshell_hf.evaluate.reports import collect_curves, describe_results, format_report, summarise
    from codeshell_hf.publish.figures import draw_sweep, save_figure

    trigram = held_out.trigram_bits_per_byte if held_out is not None else None
    work.counts = held_out.describe() if held_out is not None else {}
    work.measures = summarise(models, tasks, trigram)
    work.report = format_report(models, tasks, trigram)
    results = describe_results(models, tasks, trigram, held_out=work.counts, seed=seed)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (work.folder / "results.json").write_text(text, encoding="utf-8", errors="replace")
    if sweep is not None:
        checkpoints = {name: result for name, result in models.items() if (sweep / name).is_dir()}
        save_figure(draw_sweep(collect_curves(checkpoints)), work.folder / "sweep.svg")


def describe(settings: Settings) -> list[str]:
    """A line on the size of each task whose data are here."""
    from codeshell_hf.evaluate.models import list_models
    from codeshell_hf.evaluate.tasks import read_task

    models = len(list_models(settings.models, settings.sweep))
    missing = {place: path for place, path in list_inputs(settings).items() if not path.exists()}
    return [
        f"{name}: of unknown size, since {path} is missing"
        if (path := missing.get(f"tasks.{name}.data")) is not None
        else read_task(name, task).describe_size(models)
        for name, task in settings.tasks.items()
    ]


STAGE = Stage(name="evaluate", settings=Settings, run=run, describe=describe)

if __name__ == "__main__":
    sys.exit(main(STAGE))
