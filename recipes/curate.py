"""Curates source folders into documents: named languages, measured signals, named reasons for every drop."""

import shutil
import sys
from pathlib import Path

from pydantic import Field

from recipes.stage import Section, Stage, StageSettings, Work, main


class Source(Section):
    """A folder to read."""

    name: str = Field(description="what its documents are called by", pattern=r"^[\w.-]+$")
    path: Path = Field(description="the folder")
    exclude: tuple[str, ...] = Field(default=(), description="shell patterns of relative paths to leave out")


class RuleSettings(Section):
    """Thresholds; null turns a rule off."""

    max_line_bytes: int | None = Field(default=1000, gt=0, description="longest line in bytes")
    max_mean_line: float | None = Field(default=100, gt=0, description="mean length of a line in characters")
    min_letter_fraction: float | None = Field(default=0.25, ge=0, le=1, description="share of letters")
    drops_generated: bool = Field(default=True, description="whether files that say they were generated fall")
    prose: tuple[str, ...] = Field(
        default=("html", "json", "markdown", "restructuredtext", "tex", "text", "xml"),
        description="languages whose long lines are no fault",
    )


class Settings(StageSettings):
    """Settings of curation."""

    sources: tuple[Source, ...] = Field(description="folders to read", min_length=1)
    max_file_bytes: int = Field(default=1_000_000, gt=0, description="larger files fall")
    held_out_fraction: float = Field(default=0.02, ge=0, lt=1, description="share that nothing is trained on")
    rules: RuleSettings = Field(default_factory=RuleSettings, description="thresholds")


def run(settings: Settings, work: Work) -> None:
    """Runs the funnel.

    Args:
        settings: What to read and what to drop.
        work: Where to write.
    """
    from tqdm import tqdm

    from codeshell_hf.curate.funnel import MEASURED, curate
    from codeshell_hf.curate.report import print_table
    from codeshell_hf.curate.rules import Rules
    from codeshell_hf.curate.sources import Folder

    with tqdm(desc="curate", unit="part") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        funnel = curate(
            [Folder(source.name, source.path, source.exclude) for source in settings.sources],
            Rules(**settings.rules.model_dump()),
            work.folder,
            max_file_bytes=settings.max_file_bytes,
            held_out_fraction=settings.held_out_fraction,
            on_progress=show,
        )
    shutil.rmtree(work.folder / MEASURED)
    work.counts = funnel.counts()
    work.report = print_table(funnel)


def describe(settings: Settings) -> list[str]:
    """Says how much there is to read.

    Args:
        settings: What to read.

    Returns:
        Lines.
    """
    from codeshell_hf.curate.sources import Folder, list_files

    files = list_files(Folder(source.name, source.path, source.exclude) for source in settings.sources)
    named = [file for file in files if file.language]
    size = sum(file.size for file in named) / 1e6
    return [f"{len(files):,} files, {len(named):,} of them in a named language, {size:.1f} MB"]


STAGE = Stage(
    name="curate",
    settings=Settings,
    inputs=lambda settings: {source.name: source.path for source in settings.sources},
    run=run,
    code=("src/codeshell_hf/curate",),
    describe=describe,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
