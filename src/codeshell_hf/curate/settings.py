"""Settings of curation, one section per step."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..extensions import NameOrReference, Reference, is_reference
from ..settings import Input, InputPath, PrecisionSettings, Section
from ..text.settings import ServerSettings

KINDS = ("folder", "repositories", "archives", "jsonl", "parquet", "hub", "stackoverflow", "wet", "commits", "issues")
Column = Literal["text", "path", "language", "repository", "licence", "stars"]
Piece = Literal["line", "paragraph"]
Threshold = bool | int | float | None
LanguageRules = dict[str, dict[str, Threshold] | None]

LINES_ARE_FREE: dict[str, Threshold] = {"max_line_bytes": 100_000, "max_mean_line": None}
PROSE: dict[str, Threshold] = {
    **LINES_ARE_FREE,
    "min_words": 10,
    "min_mean_word": 1,
    "max_mean_word": 12,
    "max_symbol_fraction": 0.3,
    "max_bullet_fraction": 0.9,
}
# Per language: The Stack v2's exemptions for lines and 512 lines of data, bigcode-dataset's visible text of HTML and
# sizes of JSON, Gopher's words for prose, relaxed for Chinese and headings.
BY_LANGUAGE: LanguageRules = {
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


def _find_folder(name: str) -> Path | None:
    path = Path(name)
    is_hub = not path.exists() and len(path.parts) <= HUB_PARTS
    return None if name in BUILT_IN or is_hub else path


BUILT_IN = ("code", "static")
HUB_PARTS = 2  # owner/name
NameOrFolder = Annotated[str, Input(_find_folder)]
"""A folder, or the name of something built in or on the Hub."""


class Source(Section):
    """A source of documents."""

    name: str = Field(description="name, which starts the ids of its documents", pattern=r"^[\w.-]+$")
    kind: NameOrReference = Field(
        default="folder", description=f"how it is read: {', '.join(KINDS)}, or folder/file.py:name"
    )
    path: str = Field(description="a folder or file; for hub, owner/name@revision/folder")
    exclude: tuple[str, ...] = Field(
        default=(), description="shell patterns of relative paths to exclude; * also matches slashes"
    )
    licence: str | None = Field(default=None, description="SPDX name for documents that state no licence")
    repository: Literal["source", "folder"] | None = Field(
        default=None,
        description="for folders, what files outside of a checkout belong to: the source, or each folder in it",
    )
    columns: dict[Column, str] = Field(default={}, description="for tables: column names that differ from The Stack's")
    language: str | None = Field(
        default=None, description="for tables: the language of all rows; null: by column, folder and file name"
    )
    clones: str | None = Field(default=None, description="where repositories are cloned to; null: beside their list")
    max_clone_bytes: int = Field(default=5_000_000_000, gt=0, description="larger repositories are not cloned")
    clone_timeout_s: float = Field(default=600, gt=0, description="repositories that take longer are not cloned")

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if kind not in KINDS and not is_reference(kind):
            raise ValueError(f"kind is {kind!r}; use one of {', '.join(KINDS)}, or folder/file.py:name for your own")
        return kind

    @property
    def place(self) -> Path:
        """The path on this machine."""
        return Path(self.path)


class LicenceRights(Section):
    """Which licences documents may have."""

    licences: tuple[str, ...] | Literal["permissive"] | None = Field(
        default=None, description='SPDX names to keep; "permissive" for a list, null for all'
    )
    allows_unknown: bool = Field(default=False, description="whether documents of unknown licence are kept")


class Rights(LicenceRights):
    """Which documents may be used."""

    opt_out: InputPath | None = Field(default=None, description="file with repositories, owners/ or ids, one per line")
    by_source: dict[str, LicenceRights] = Field(
        default={}, description="licences and allows_unknown of single sources, in place of those above"
    )


class Rules(Section):
    """Thresholds over signals; null turns a rule off. Signals that a language does not have break no rule."""

    drops_generated: bool = Field(default=True, description="drop files that are marked as generated (The Stack v2)")
    drops_scaffolds: bool = Field(default=True, description="drop files that tools write into new projects")
    drops_xml: bool = Field(default=True, description="drop XML under another name (bigcode-dataset)")
    max_line_bytes: int | None = Field(default=1000, gt=0, description="longest line in bytes (bigcode-dataset)")
    max_mean_line: float | None = Field(default=100, gt=0, description="mean line in characters (bigcode-dataset)")
    min_lines: int | None = Field(default=None, gt=0, description="lines at least (OpenCoder: 10)")
    max_lines: int | None = Field(default=100_000, gt=0, description="lines at most (The Stack v2)")
    min_bytes: int | None = Field(default=None, gt=0, description="bytes at least (OpenCoder: 50)")
    max_bytes: int | None = Field(default=None, gt=0, description="bytes at most (OpenCoder: 3 MB)")
    min_letter_fraction: float | None = Field(default=0.25, ge=0, le=1, description="letters (The Stack v2)")
    max_digit_fraction: float | None = Field(default=None, ge=0, le=1, description="digits (OpenCoder: 0.2)")
    max_space_fraction: float | None = Field(default=None, ge=0, le=1, description="white space (OpenCoder: 0.5)")
    max_encoded_fraction: float | None = Field(default=0.5, ge=0, le=1, description="encoded data (The Stack v2)")
    max_encoded_bytes: int | None = Field(default=1024, gt=0, description="longest run of encoded data (The Stack v2)")
    max_duplicate_line_fraction: float | None = Field(
        default=0.7, ge=0, le=1, description="bytes in repeated lines (OpenCoder, which counts lines)"
    )
    max_header_fraction: float | None = Field(default=0.8, ge=0, le=1, description="lines of a licence header")
    min_visible_fraction: float | None = Field(
        default=None, ge=0, le=1, description="of markup, visible text (bigcode-dataset: 0.2)"
    )
    min_visible_bytes: int | None = Field(
        default=None, gt=0, description="of markup, visible text in bytes (bigcode-dataset: 100)"
    )
    min_comment_fraction: float | None = Field(default=None, ge=0, le=1, description="comments (StarCoder: 0.01)")
    max_comment_fraction: float | None = Field(default=0.8, ge=0, le=1, description="comments (StarCoder, OpenCoder)")
    max_string_fraction: float | None = Field(default=0.6, ge=0, le=1, description="strings (OpenCoder)")
    must_parse: bool = Field(default=False, description="drop documents that do not parse (OpenCoder, of Python)")
    max_depth: int | None = Field(default=None, gt=0, description="nested blocks")
    max_complexity: float | None = Field(default=None, gt=0, description="mean cyclomatic complexity of functions")
    max_faults_per_line: float | None = Field(default=None, gt=0, description="findings of linters for each line")
    max_security_faults: int | None = Field(default=None, ge=0, description="findings of ruff's security rules")
    min_preference: float | None = Field(default=None, ge=0, le=1, description="the score of all signals")
    min_words: int | None = Field(default=None, gt=0, description="of prose, words (Gopher: 50)")
    min_mean_word: float | None = Field(default=None, gt=0, description="of prose, mean word (Gopher: 3)")
    max_mean_word: float | None = Field(default=None, gt=0, description="of prose, mean word (Gopher: 10)")
    max_symbol_fraction: float | None = Field(
        default=None, gt=0, description="of prose, # and ... per word (Gopher: 0.1)"
    )
    max_bullet_fraction: float | None = Field(default=None, gt=0, le=1, description="of prose, lines in lists (Gopher)")
    custom: tuple[Reference, ...] = Field(
        default=(), description="rules of your own, each folder/file.py:name of a function (CONTRIBUTING.md)"
    )
    by_language: LanguageRules | None = Field(
        default=BY_LANGUAGE,
        description="thresholds that replace these, by language and rule, on top of the defaults; null for none",
    )

    @field_validator("by_language", mode="before")
    @classmethod
    def _add_defaults(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        merged: dict[str, object] = {**BY_LANGUAGE, **given}
        for language, rules in given.items():
            defaults = BY_LANGUAGE.get(language)
            if defaults is not None and isinstance(rules, dict):
                merged[language] = {**defaults, **rules}
        return merged

    @model_validator(mode="after")
    def _check_languages(self) -> "Rules":
        known = set(type(self).model_fields) - {"by_language", "custom"}
        for language, rules in (self.by_language or {}).items():
            for name in rules or {}:
                if name not in known:
                    names = ", ".join(sorted(known))
                    raise ValueError(f"rules.by_language.{language} has the unknown rule {name!r}; known are {names}")
        return self


class NearDuplicates(Section):
    """Near duplicates by MinHash, checked by exact Jaccard."""

    min_jaccard: float = Field(
        default=0.7, gt=0, le=1, description="similarity from which two documents are near duplicates"
    )
    bands: int = Field(default=22, gt=0, le=64, description="bands of each MinHash")
    rows: int = Field(default=5, gt=0, le=32, description="minima in each band")


class RepeatedText(Section):
    """Lines or paragraphs that many documents share."""

    piece: Piece = Field(default="paragraph", description="what is compared")
    min_documents: int = Field(default=20, gt=1, description="documents that must share a piece before it is removed")
    min_bytes: int = Field(default=120, gt=0, description="shorter pieces stay")
    min_left: int = Field(default=50, gt=0, description="documents with fewer characters left are dropped")


class Measuring(Section):
    """What is measured for every document; thresholds come later."""

    max_file_bytes: int = Field(default=1_000_000, gt=0, description="larger documents are dropped")
    reads_syntax: bool = Field(default=True, description="parse with tree-sitter")
    lints: bool = Field(default=True, description="lint Python with ruff")
    near_duplicates: NearDuplicates | None = Field(default_factory=NearDuplicates, description="null keeps them")
    repeated_text: RepeatedText | None = Field(default=None, description="null keeps repeated text")


class Perplexity(Section):
    """The cut by an n-gram model."""

    keep_fraction: float = Field(default=0.95, gt=0, le=1, description="share of each language that stays")
    model: InputPath | None = Field(default=None, description="ARPA or KenLM binary; null trains one")
    order: int = Field(default=5, ge=1, le=6, description="words in the longest n-gram")
    sample_bytes: int = Field(default=50_000_000, gt=0, description="text to train on, the most preferred first")
    min_word_count: int = Field(default=2, gt=0, description="rarer words are unknown")
    words: NameOrFolder = Field(default="code", description="code, or a tokenizer's folder")
    max_characters: int = Field(default=8000, gt=0, description="start of each document that is scored")


class Endpoint(ServerSettings):
    """A model that annotates, behind a server."""

    url: str | None = Field(default=None, description="base address; null for the Hub's providers")
    prompt: InputPath | None = Field(
        default=None, description="file with {language} and {text}; null for the package's own"
    )
    max_characters: int = Field(default=12_000, gt=0, description="longer documents are cut")
    max_answers: int = Field(default=100_000, gt=0, description="budget of answers, readable or not, over all runs")
    max_answer_tokens: int = Field(
        default=1024, gt=0, description="room for an answer, with the reasoning of a model that reasons"
    )
    calls_at_once: int = Field(default=8, gt=0, description="concurrent requests")


class Quality(PrecisionSettings):
    """The learned score."""

    model: NameOrFolder | None = Field(
        default=None, description='trained regressor; "static" for static scores; null trains'
    )
    sample_documents: int = Field(default=50_000, gt=0, description="documents to annotate")
    endpoint: Endpoint | None = Field(default=None, description="model that annotates; null: the static annotator")
    encoder: str | None = Field(default=None, description="checkpoint to start from; null: a small one from scratch")
    max_tokens: int = Field(default=512, gt=8, description="longer documents are cut")
    epochs: float = Field(default=3, gt=0, description="passes over the annotated documents")
    batch_documents: int = Field(default=32, gt=0, description="documents per step")
    learning_rate: float = Field(default=5e-5, gt=0, description="peak")
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of annotated documents to measure on")
    min_score: float | None = Field(
        default=None, ge=0, le=5, description="documents below it are dropped; null only scores"
    )
    seed: int = Field(default=0, description="of the sample, weights and order")


class Benchmark(Section):
    """Texts that must not be trained on."""

    name: str = Field(description="name in reports")
    path: InputPath = Field(description="JSON Lines, Parquet, CSV or text, or a folder of them")
    fields: tuple[str, ...] = Field(default=(), description="fields with texts; empty: prompts and solutions")


class Selection(Section):
    """Selects a number of tokens from the remaining documents; languages keep their shares."""

    max_tokens: int = Field(gt=0, description="how many")
    by: Literal["quality", "random"] = Field(description="best first, or at random")
    seed: int = Field(default=0, description="of the random order")


class EngineSettings(Section):
    """Where the work runs."""

    runner: Literal["local", "ray"] = Field(default="local", description="this machine, or a Ray cluster")
    address: str | None = Field(
        default=None, description="address of the cluster's head; null: the current cluster, or a new local one"
    )
    part_bytes: int = Field(
        default=32_000_000, gt=0, description="bytes of a part, which is the unit of work and of resuming"
    )
