"""Curates sources into documents: languages, signals, and a reason for every dropped document."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from codeshell_hf.curate.settings import (
    Benchmark,
    EngineSettings,
    Measuring,
    NameOrFolder,
    Perplexity,
    Quality,
    Rights,
    Rules,
    Selection,
    Source,
)
from codeshell_hf.settings import list_inputs
from codeshell_hf.stages.precision_choice import resolve_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf.curate.progress import Progress
    from codeshell_hf.curate.report import Outcome
    from codeshell_hf.precision import ComputeDtype


class Settings(Measuring, StageSettings):
    """Settings of curation."""

    sources: tuple[Source, ...] = Field(description="where documents come from", min_length=1)
    existing: tuple[Source, ...] = Field(
        default=(), description="corpora whose documents are dropped, exact and near ones, read as sources are"
    )
    cache: Path | None = Field(default=None, description="folder of measured parts; null: beside the output, .measured")
    engine: EngineSettings = Field(default_factory=EngineSettings, description="where the work runs")
    min_language_bytes: int = Field(
        default=0, ge=0, description="languages with less text are dropped (CodeShell's report: 100 MB)"
    )
    held_out_fraction: float = Field(
        default=0.02, ge=0, lt=1, description="share of documents that is held out from training"
    )
    rights: Rights = Field(default_factory=Rights, description="licences and opt-outs")
    rules: Rules = Field(default_factory=Rules, description="thresholds")
    perplexity: Perplexity | None = Field(default=None, description="null drops nothing by perplexity")
    quality: Quality | None = Field(default=None, description="null does not score")
    benchmarks: tuple[Benchmark, ...] = Field(default=(), description="what must not be trained on")
    min_benchmark_hits: int = Field(
        default=5, gt=0, description="six-word sequences of one text of a task that make a document contaminated"
    )
    min_benchmark_overlap: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="and their share of all in that text; texts of fewer must be there as a whole",
    )
    redacts: bool = Field(default=True, description="replace personal data with placeholders")
    drops_exact_duplicates: bool = Field(
        default=True, description="drop equal documents; false if whole repositories are to be joined"
    )
    selection: Selection | None = Field(default=None, description="null takes all remaining documents")
    tokenizer: NameOrFolder | None = Field(default=None, description="tokenizer for counting tokens; null counts words")

    @model_validator(mode="after")
    def _check_sources(self) -> "Settings":
        names = [source.name for source in self.sources]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"sources has the name {sorted(repeated)[0]!r} twice; ids begin with it, so give each its own"
            )
        for name in self.rights.by_source:
            if name not in names:
                raise ValueError(
                    f"rights.by_source has {name!r}, which is not a source; name one of {', '.join(names)}"
                )
        if self.selection is not None and self.selection.by == "quality" and self.quality is None:
            raise ValueError("selection.by is quality, but quality is null; set quality: {}")
        return self


def run(settings: Settings, work: Work) -> None:
    """Curates and reports."""
    from codeshell_hf.curate import daft_engine
    from codeshell_hf.curate.page import write_report
    from codeshell_hf.curate.progress import StepBar
    from codeshell_hf.curate.report import print_table
    from codeshell_hf.curate.worker_pool import POOL

    daft_engine.start(settings.engine.runner, settings.engine.address)
    compute_dtype = choose_compute_dtype(settings.quality, work)
    with POOL, StepBar("curate") as bar:
        outcome = curate(settings, work.folder, compute_dtype=compute_dtype, on_progress=bar)
    unit = "tokens" if settings.tokenizer else "words"
    write_report(outcome, settings.rules, work.folder, title=settings.output.parent.name, unit=unit)
    work.counts = {**outcome.funnel.counts()}
    work.measures = {**outcome.measures, "redacted": outcome.placeholders, "steps": dict(outcome.steps)}
    work.report = [*print_table(outcome.funnel, unit=unit), f"report: {settings.output / 'report.html'}"]


def curate(settings: Settings, output: Path, *, compute_dtype: "ComputeDtype", on_progress: "Progress") -> "Outcome":
    """Runs the steps; each works on the documents that earlier ones left.

    Args:
        compute_dtype: Of the quality regressor.
        on_progress: Called with the step, the parts done and their total.

    Raises:
        DataError: If there is nothing to read, or nothing is left.
    """
    from codeshell_hf.curate.corpus import Corpus
    from codeshell_hf.curate.funnel import Curation
    from codeshell_hf.curate.input_checks import check_inputs

    check_inputs(
        rules=settings.rules,
        rights=settings.rights,
        benchmarks=settings.benchmarks,
        perplexity=settings.perplexity,
        quality=settings.quality,
        tokenizer=settings.tokenizer,
    )
    cache = settings.cache or settings.output.with_name(f"{settings.output.name}.measured")
    corpus = Corpus(
        settings.sources,
        settings,
        part_bytes=settings.engine.part_bytes,
        cache=cache / "measured",
        work=output / "work",
        on_progress=on_progress,
    )
    curation = Curation(corpus, output, on_progress)
    curation.judge(settings.rules, settings.rights, min_language_bytes=settings.min_language_bytes)
    if settings.existing:
        curation.drop_existing(
            *(settings.existing, settings.near_duplicates),
            part_bytes=settings.engine.part_bytes,
            cache=cache / "existing",
        )
    curation.drop_duplicates(settings.near_duplicates, drops_exact=settings.drops_exact_duplicates)
    curation.inspect(
        repeated=settings.repeated_text,
        perplexity=settings.perplexity,
        benchmarks=settings.benchmarks,
        min_benchmark_hits=settings.min_benchmark_hits,
        min_benchmark_overlap=settings.min_benchmark_overlap,
        tokenizer=settings.tokenizer,
    )
    if settings.perplexity is not None:
        curation.cut_by_perplexity(settings.perplexity.keep_fraction)
    if settings.quality is not None:
        curation.score(settings.quality, compute_dtype, answers=cache / "answers.jsonl")
    if settings.benchmarks:
        curation.decontaminate()
    if settings.selection is not None:
        curation.select(settings.selection)
    curation.write(held_out_fraction=settings.held_out_fraction, redacts=settings.redacts)
    return curation.outcome


def choose_compute_dtype(quality: Quality | None, work: Work) -> "ComputeDtype":
    """Chooses the compute dtype of the quality regressor."""
    from codeshell_hf.curate.inspection import STATIC
    from codeshell_hf.curate.regressor import read_encoder

    if quality is None or quality.model == STATIC:
        return "float32"
    return resolve_precision(
        quality.precision,
        lambda: read_encoder(quality.model or quality.encoder),
        work,
        trains=quality.model is None,
        record_folder=work.folder / "quality",
    ).compute_dtype


def describe(settings: Settings) -> list[str]:
    """Describes the size of the sources."""
    from codeshell_hf.curate.corpus import describe_sources

    return describe_sources(settings.sources, part_bytes=settings.engine.part_bytes)


def list_all_inputs(settings: Settings) -> dict[str, Path]:
    """The files and folders that the stage reads, by name; sources on the Hub are not."""
    given = [("sources", source) for source in settings.sources]
    given += [("existing", source) for source in settings.existing]
    places = {f"{part}.{source.name}": source.place for part, source in given if source.kind != "hub"}
    return places | list_inputs(settings)


STAGE = Stage(
    name="curate",
    settings=Settings,
    run=run,
    inputs=list_all_inputs,
    describe=describe,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
