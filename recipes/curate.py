"""Curates sources into documents: named languages, measured signals, named reasons for every drop."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from codeshell_hf.settings import Section
from codeshell_hf.stages.numerics import PrecisionSettings, settle_precision
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

if TYPE_CHECKING:
    from codeshell_hf.precision import Arithmetic

LINES_ARE_FREE: dict[str, Any] = {"max_line_bytes": 100_000, "max_mean_line": None}
PROSE: dict[str, Any] = {
    **LINES_ARE_FREE,
    "min_words": 10,
    "min_mean_word": 1,
    "max_mean_word": 12,
    "max_symbol_fraction": 0.3,
    "max_bullet_fraction": 0.9,
}
# Thresholds of their own: The Stack v2's exemptions for lines and 512 lines of data, bigcode-dataset's visible text of
# HTML and sizes of JSON, Gopher's words for prose, widened for Chinese and for headings.
BY_LANGUAGE: dict[str, dict[str, Any]] = {
    "html": {**LINES_ARE_FREE, "min_visible_fraction": 0.2, "min_visible_bytes": 100, "drops_xml": False},
    "json": {**LINES_ARE_FREE, "min_bytes": 100, "max_bytes": 5000, "max_lines": 512, "max_digit_fraction": 0.5},
    "yaml": {"min_bytes": 100, "max_bytes": 5000, "max_lines": 512},
    "xml": {**LINES_ARE_FREE, "drops_xml": False},
    "xslt": {"drops_xml": False},
    "text": {**PROSE, "max_lines": 512},
    "markdown": PROSE,
    "restructuredtext": PROSE,
    "tex": {**PROSE, "max_symbol_fraction": None},
    "web-text": {**PROSE, "min_words": 50},
    "stack-exchange": PROSE,
    "github-issues": PROSE,
    "jupyter-structured": LINES_ARE_FREE,
    "git-commits": {"max_bytes": 100_000},
}


class Source(Section):
    """Where documents come from."""

    name: str = Field(description="what its documents are called by", pattern=r"^[\w.-]+$")
    kind: Literal[
        "folder", "repositories", "archives", "jsonl", "parquet", "hub", "stackoverflow", "wet", "commits", "issues"
    ] = Field(default="folder", description="how it is read")
    path: str = Field(description="a folder or file; of hub owner/name@revision/folder")
    exclude: tuple[str, ...] = Field(default=(), description="shell patterns of relative paths to leave out")
    licence: str | None = Field(default=None, description="SPDX name for what does not say its own")
    columns: dict[Literal["text", "path", "language", "repository", "licence", "stars"], str] = Field(
        default={}, description="of tables, the columns, where they are not The Stack's"
    )
    clones: str | None = Field(default=None, description="where repositories are cloned to; null: beside their list")


class Rights(Section):
    """Whose documents may be used."""

    licences: tuple[str, ...] | Literal["permissive"] | None = Field(
        default=None, description='SPDX names that may stay; "permissive" for a list, null for all'
    )
    allows_unknown: bool = Field(default=False, description="whether documents of unknown licence stay then")
    opt_out: Path | None = Field(default=None, description="file with repositories, owners/ or ids, one a line")


class RuleSettings(Section):
    """Thresholds over signals; null turns a rule off."""

    drops_generated: bool = Field(default=True, description="whether files that say they were generated fall")
    drops_scaffolds: bool = Field(default=True, description="whether what a tool writes into new projects falls")
    drops_xml: bool = Field(default=True, description="whether XML under another name falls (bigcode-dataset)")
    max_line_bytes: int | None = Field(default=1000, gt=0, description="longest line in bytes (bigcode-dataset)")
    max_mean_line: float | None = Field(default=100, gt=0, description="mean line in characters (bigcode-dataset)")
    min_lines: int | None = Field(default=None, gt=0, description="lines at least")
    max_lines: int | None = Field(default=100_000, gt=0, description="lines at most (The Stack v2)")
    min_bytes: int | None = Field(default=None, gt=0, description="bytes at least")
    max_bytes: int | None = Field(default=None, gt=0, description="bytes at most")
    min_letter_fraction: float | None = Field(default=0.25, ge=0, le=1, description="letters (The Stack v2)")
    max_digit_fraction: float | None = Field(default=None, ge=0, le=1, description="digits (OpenCoder: 0.2)")
    max_space_fraction: float | None = Field(default=None, ge=0, le=1, description="white space (OpenCoder: 0.5)")
    max_encoded_fraction: float | None = Field(default=0.5, ge=0, le=1, description="encoded data (The Stack v2)")
    max_encoded_bytes: int | None = Field(default=1024, gt=0, description="its longest run (The Stack v2)")
    max_duplicate_line_fraction: float | None = Field(
        default=0.7, ge=0, le=1, description="bytes in repeated lines (OpenCoder, which counts lines)"
    )
    max_header_fraction: float | None = Field(default=0.8, ge=0, le=1, description="lines of a licence header")
    min_visible_fraction: float | None = Field(default=None, ge=0, le=1, description="of markup, visible text")
    min_visible_bytes: int | None = Field(default=None, gt=0, description="of markup, visible text in bytes")
    min_comment_fraction: float | None = Field(default=None, ge=0, le=1, description="comments (StarCoder: 0.01)")
    max_comment_fraction: float | None = Field(default=0.8, ge=0, le=1, description="comments (StarCoder, OpenCoder)")
    max_string_fraction: float | None = Field(default=0.6, ge=0, le=1, description="strings (OpenCoder)")
    must_parse: bool = Field(default=False, description="whether what breaks its grammar falls")
    max_depth: int | None = Field(default=None, gt=0, description="blocks inside one another")
    max_complexity: float | None = Field(default=None, gt=0, description="mean cyclomatic complexity of functions")
    max_faults_per_line: float | None = Field(default=None, gt=0, description="findings of linters for each line")
    max_security_faults: int | None = Field(default=None, ge=0, description="findings of ruff's security rules")
    min_preference: float | None = Field(default=None, ge=0, le=1, description="the score of all signals")
    min_words: int | None = Field(default=None, gt=0, description="of prose, words")
    min_mean_word: float | None = Field(default=None, gt=0, description="of prose, mean word (Gopher: 3)")
    max_mean_word: float | None = Field(default=None, gt=0, description="of prose, mean word (Gopher: 10)")
    max_symbol_fraction: float | None = Field(
        default=None, gt=0, description="of prose, # and ... a word (Gopher: 0.1)"
    )
    max_bullet_fraction: float | None = Field(default=None, gt=0, le=1, description="of prose, lines of lists (Gopher)")
    by_language: dict[str, dict[str, bool | int | float | None]] = Field(
        default=BY_LANGUAGE, description="thresholds that replace these, by language and rule"
    )

    @model_validator(mode="after")
    def _check_languages(self) -> "RuleSettings":
        known = set(type(self).model_fields) - {"by_language"}
        for language, rules in self.by_language.items():
            for name in rules:
                if name not in known:
                    names = ", ".join(sorted(known))
                    raise ValueError(f"rules.by_language.{language} has the unknown rule {name!r}; known are {names}")
        return self


class Near(Section):
    """Near duplicates by MinHash, checked by exact Jaccard."""

    min_jaccard: float = Field(default=0.7, gt=0, le=1, description="shared shingles from which two are near")
    bands: int = Field(default=22, gt=0, le=64, description="numbers of each MinHash")
    rows: int = Field(default=5, gt=0, le=32, description="minima in each number")


class Repeated(Section):
    """Lines or paragraphs that many documents share."""

    piece: Literal["line", "paragraph"] = Field(default="paragraph", description="what is compared")
    min_documents: int = Field(default=20, gt=1, description="in how many documents one must stand to be removed")
    min_bytes: int = Field(default=120, gt=0, description="shorter ones stay")
    min_left: int = Field(default=50, gt=0, description="documents with fewer characters left fall")


class PerplexitySettings(Section):
    """The cut by an n-gram model."""

    keep_fraction: float = Field(default=0.95, gt=0, le=1, description="share of each language that stays")
    model: Path | None = Field(default=None, description="ARPA or KenLM binary; null trains one")
    order: int = Field(default=5, ge=1, le=6, description="words in the longest n-gram")
    sample_bytes: int = Field(default=50_000_000, gt=0, description="text it is trained on, the most preferred first")
    min_word_count: int = Field(default=2, gt=0, description="rarer words are unknown")
    words: str = Field(default="code", description="code, or a tokenizer's folder")
    max_characters: int = Field(default=8000, gt=0, description="start of each document that is scored")


class EndpointSettings(Section):
    """A model that scores."""

    url: str | None = Field(default=None, description="base address; null for the Hub's providers")
    model: str = Field(description="its name there")
    token_variable: str | None = Field(default=None, description="environment variable that holds its key")
    prompt: Path | None = Field(default=None, description="file with {language} and {text}; null for the package's own")
    max_characters: int = Field(default=12_000, gt=0, description="longer documents are cut")
    max_answers: int = Field(default=100_000, gt=0, description="budget: answers paid for, over all runs")
    calls_at_once: int = Field(default=8, gt=0, description="calls under way together")


class QualitySettings(PrecisionSettings):
    """The learned score."""

    model: str | None = Field(default=None, description='trained regressor; "static" for static scores; null trains')
    sample_documents: int = Field(default=50_000, gt=0, description="documents to annotate")
    endpoint: EndpointSettings | None = Field(default=None, description="whom to ask; null: the static annotator")
    encoder: str | None = Field(default=None, description="checkpoint to start from; null: a small one from scratch")
    max_tokens: int = Field(default=512, gt=8, description="documents are cut to so many tokens")
    epochs: float = Field(default=3, gt=0, description="passes over the annotated documents")
    batch_documents: int = Field(default=32, gt=0, description="documents a step")
    learning_rate: float = Field(default=5e-5, gt=0, description="at its highest")
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="annotated documents to measure on")
    min_score: float | None = Field(default=None, ge=0, le=5, description="documents below fall; null scores only")
    seed: int = Field(default=0, description="of sample, weights and order")


class BenchmarkSettings(Section):
    """Texts that must not be trained on."""

    name: str = Field(description="what findings are called by")
    path: Path = Field(description="JSON Lines, Parquet, CSV or text, or a folder of them")
    fields: tuple[str, ...] = Field(default=(), description="fields with texts; empty: prompts and solutions")


class SelectionSettings(Section):
    """So many tokens of what is left, of every language its share."""

    max_tokens: int = Field(gt=0, description="how many")
    by: Literal["quality", "random"] = Field(description="best first, or drawn")
    seed: int = Field(default=0, description="of the draw")


class Engine(Section):
    """Where the work is done."""

    runner: Literal["local", "ray"] = Field(default="local", description="this machine, or a Ray cluster")
    address: str | None = Field(default=None, description="of the cluster's head; null: this one, or a new local one")
    part_bytes: int = Field(default=32_000_000, gt=0, description="bytes of a part, which is finished once for all")


class Settings(StageSettings):
    """Settings of curation."""

    sources: tuple[Source, ...] = Field(description="where documents come from", min_length=1)
    cache: Path | None = Field(default=None, description="what was measured; null: beside the output, .measured")
    engine: Engine = Field(default_factory=Engine, description="where the work is done")
    max_file_bytes: int = Field(default=1_000_000, gt=0, description="larger documents fall")
    min_language_bytes: int = Field(default=0, ge=0, description="languages with less text fall (the report: 100 MB)")
    held_out_fraction: float = Field(default=0.02, ge=0, lt=1, description="share that nothing is trained on")
    reads_syntax: bool = Field(default=True, description="whether tree-sitter parses")
    lints: bool = Field(default=True, description="whether ruff lints Python")
    rights: Rights = Field(default_factory=Rights, description="licences and opt-outs")
    rules: RuleSettings = Field(default_factory=RuleSettings, description="thresholds")
    near_duplicates: Near | None = Field(default_factory=Near, description="null keeps them")
    repeated_text: Repeated | None = Field(default=None, description="null leaves it")
    perplexity: PerplexitySettings | None = Field(default=None, description="null for no cut")
    quality: QualitySettings | None = Field(default=None, description="null for no score")
    benchmarks: tuple[BenchmarkSettings, ...] = Field(default=(), description="what must not be trained on")
    min_benchmark_hits: int = Field(default=1, gt=0, description="common ten-word sequences that contaminate")
    redacts: bool = Field(default=True, description="whether personal data is replaced by placeholders")
    selection: SelectionSettings | None = Field(default=None, description="null takes all that is left")
    tokenizer: str | None = Field(default=None, description="what tokens are counted with; null counts words")

    @model_validator(mode="after")
    def _check_sources(self) -> "Settings":
        names = [source.name for source in self.sources]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"sources has the name {sorted(repeated)[0]!r} twice; ids begin with it, so give each its own"
            )
        if self.selection is not None and self.selection.by == "quality" and self.quality is None:
            raise ValueError("selection.by is quality, but quality is null; set quality: {}")
        return self


def run(settings: Settings, work: Work) -> None:
    """Runs the funnel.

    Args:
        settings: What to read and what to drop.
        work: Where to write.
    """
    from tqdm import tqdm

    from codeshell_hf.curate import engine
    from codeshell_hf.curate.funnel import curate
    from codeshell_hf.curate.page import write_report
    from codeshell_hf.curate.report import print_table

    engine.start(settings.engine.runner, settings.engine.address)
    curation = make_curation(settings, arithmetic=choose_arithmetic(settings, work))
    with tqdm(unit="part") as bar:
        shown = ""

        def show(step: str, done: int, total: int) -> None:
            nonlocal shown
            if step != shown:
                shown = step
                bar.reset(total)
                bar.set_description(f"curate: {step}")
            bar.total = total
            bar.update(done - bar.n)

        cache = settings.cache or settings.output.with_name(f"{settings.output.name}.measured")
        outcome = curate(
            *(make_sources(settings), curation, work.folder, cache),
            part_bytes=settings.engine.part_bytes,
            on_progress=show,
        )
    unit = "tokens" if settings.tokenizer else "words"
    write_report(outcome, curation.rules, work.folder, title=settings.output.parent.name, unit=unit)
    work.counts = outcome.funnel.counts()
    work.measures = {**outcome.measures, "redacted": outcome.placeholders, "steps": dict(outcome.steps)}
    work.report = [*print_table(outcome.funnel, unit=unit), f"report: {settings.output / 'report.html'}"]


def choose_arithmetic(settings: Settings, work: Work) -> "Arithmetic":
    """Settles what the regressor of quality computes in.

    Args:
        settings: With or without quality.
        work: Filled.

    Returns:
        Its name.
    """
    from codeshell_hf.curate.inspection import STATIC
    from codeshell_hf.curate.regressor import read_encoder

    quality = settings.quality
    if quality is None or quality.model == STATIC:
        return "float32"
    return settle_precision(
        *(quality.precision, lambda: read_encoder(quality.model or quality.encoder), work),
        trains=quality.model is None,
        kept=work.folder / "quality",
    ).arithmetic


def make_sources(settings: Settings) -> list[Any]:
    """Makes the library's sources of the settings'.

    Args:
        settings: Of the stage.

    Returns:
        Sources in order.
    """
    from codeshell_hf.curate import sources

    return [sources.Source(**source.model_dump()) for source in settings.sources]


def make_curation(settings: Settings, *, arithmetic: "Arithmetic") -> Any:
    """Makes the library's options of the settings.

    Args:
        settings: Of the stage.
        arithmetic: What quality is scored in.

    Returns:
        All that decides what stays.

    Raises:
        DataError: If the list of those who opted out cannot be read.
    """
    from codeshell_hf.curate import annotation, options
    from codeshell_hf.curate.duplicates import NearDuplicates
    from codeshell_hf.curate.measurement import Measuring
    from codeshell_hf.curate.regressor import Fitting
    from codeshell_hf.curate.rules import Rules, Thresholds
    from codeshell_hf.curate.sources.licences import PERMISSIVE

    near, repeated, quality = settings.near_duplicates, settings.repeated_text, settings.quality
    licences = settings.rights.licences
    made_quality = None
    if quality is not None:
        endpoint = None
        if quality.endpoint is not None:
            endpoint = annotation.Endpoint(
                **quality.endpoint.model_dump(exclude={"prompt", "token_variable"}),
                prompt=quality.endpoint.prompt or annotation.PROMPT,
                token=read_token(quality.endpoint.token_variable),
            )
        fitting = Fitting(
            **quality.model_dump(include=set(Fitting.__dataclass_fields__) - {"precision"}), precision=arithmetic
        )
        made_quality = options.Quality(
            *(quality.model, quality.sample_documents, endpoint, fitting, quality.min_score, quality.batch_documents),
        )
    return options.Curation(
        measuring=Measuring(
            max_file_bytes=settings.max_file_bytes,
            bands=near.bands if near else None,
            rows=near.rows if near else 0,
            pieces=repeated.piece if repeated else None,
            min_piece_bytes=repeated.min_bytes if repeated else 0,
            reads_syntax=settings.reads_syntax,
            lints=settings.lints,
        ),
        rules=Rules(
            Thresholds(**settings.rules.model_dump(exclude={"by_language"})),
            settings.rules.by_language,
            licences=PERMISSIVE if licences == "permissive" else licences,
            allows_unknown_licence=settings.rights.allows_unknown,
            opted_out=read_opt_outs(settings.rights.opt_out),
        ),
        min_language_bytes=settings.min_language_bytes,
        near=NearDuplicates(**near.model_dump()) if near else None,
        pieces=options.Pieces(**repeated.model_dump()) if repeated else None,
        perplexity=options.Perplexity(**settings.perplexity.model_dump()) if settings.perplexity else None,
        quality=made_quality,
        benchmarks=[row.model_dump() for row in settings.benchmarks],
        min_benchmark_hits=settings.min_benchmark_hits,
        redacts=settings.redacts,
        selection=options.Selection(**settings.selection.model_dump()) if settings.selection else None,
        tokenizer=settings.tokenizer,
        held_out_fraction=settings.held_out_fraction,
    )


def read_token(variable: str | None) -> str | None:
    """Reads an endpoint's key.

    Args:
        variable: Environment variable that holds it; `None` for no key.

    Returns:
        The key.

    Raises:
        SettingsError: If it is not set.
    """
    from codeshell_hf.errors import SettingsError

    if variable is not None and variable not in os.environ:
        raise SettingsError(f"quality.endpoint.token_variable is {variable}, which is not set; export it")
    return os.environ[variable] if variable is not None else None


def read_opt_outs(path: Path | None) -> tuple[str, ...]:
    """Reads who does not want to be used.

    Args:
        path: A file with one repository, `owner/` or document's id a line, `#` for remarks; `None` for nobody.

    Returns:
        Their names.

    Raises:
        DataError: If it cannot be read.
    """
    from codeshell_hf.errors import DataError

    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"rights.opt_out is {path}, which cannot be read; name a text file, one name a line") from error
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))


def describe(settings: Settings) -> list[str]:
    """Says how much there is to read.

    Args:
        settings: What to read.

    Returns:
        Lines.
    """
    from codeshell_hf.curate.corpus import split_parts
    from codeshell_hf.curate.sources import list_units
    from codeshell_hf.errors import DataError

    lines, units = [], []
    for source in make_sources(settings):
        if source.kind == "repositories":
            lines.append(f"{source.name}: repositories of {source.path}, which a run clones")
            continue
        try:
            found = list(list_units(source))
        except DataError as error:  # a plan says what is missing, and goes on
            lines.append(str(error))
            continue
        units += found
        lines.append(
            f"{source.name}: {len(found):,} {source.kind} units, {sum(unit.size for unit in found) / 1e6:.1f} MB"
        )
    parts = len(split_parts(units, part_bytes=settings.engine.part_bytes))
    return [*lines, f"{len(units):,} units, {sum(unit.size for unit in units) / 1e6:.1f} MB, in {parts} parts"]


def list_inputs(settings: Settings) -> dict[str, Path]:
    """What the stage reads of this machine.

    Args:
        settings: Of the stage.

    Returns:
        Paths by name.
    """
    inputs = {source.name: Path(source.path) for source in settings.sources if source.kind != "hub"}
    inputs |= {row.name: row.path for row in settings.benchmarks}
    if settings.rights.opt_out is not None:
        inputs["opt_out"] = settings.rights.opt_out
    return inputs


STAGE = Stage(
    name="curate",
    settings=Settings,
    inputs=list_inputs,
    run=run,
    describe=describe,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
