"""Sections of the builder's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from codeshell_hf.settings import Section
from codeshell_hf.text.splits import STARCODER, SplitName

NewMerges = Literal["beyond-ascii", "chinese"]


class TextSource(Section):
    """Where texts come from."""

    name: str = Field(description="name in reports", pattern=r"^[\w.-]+$")
    path: Path = Field(description="a .txt, .jsonl, .jsonl.gz or .parquet file, the output of curate, or a folder")
    language: str | None = Field(default=None, description="of curated documents or a folder, this language alone")
    weight: float = Field(default=1.0, gt=0, description="share of the sample, relative to the others'")


class Continuation(Section):
    """Which entries continue a base vocabulary."""

    new_merges: NewMerges = Field(
        default="beyond-ascii", description="what every new merge must hold; chinese leaves all other text as it was"
    )
    floor: Literal["none", "chinese"] = Field(
        default="none",
        description="characters that get an entry whatever their use; chinese: level 1 of GB/T 2312 and punctuation",
    )
    max_characters: int = Field(default=8, ge=1, le=64, description="characters of a new entry at most")
    min_sources: int = Field(
        default=1, ge=1, description="sources that must hold a new entry, or all where there are fewer"
    )
    source_exponent: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of a source's frequency in the mean that ranks entries: 1 ranks by frequency, less by how many "
        "sources hold an entry",
    )


class Bpe(Section):
    """How a BPE is trained."""

    split: SplitName = Field(
        default=STARCODER,
        description="what no entry crosses: StarCoder's words, or GPT-4's, which take a sign along and the line's end",
    )
    across_words: int | None = Field(
        default=None, gt=0, description="entries that may join words, of all (SuperBPE); null keeps all within words"
    )


class Merged(Section):
    """How a base vocabulary is merged with another language."""

    extend_with: tuple[str, ...] = Field(description="names of the sources to continue on", min_length=1)
    base: str | None = Field(
        default=None, description="tokenizer.json to start from, a path or owner/name on the Hub; null trains one here"
    )
    trained_size: int | None = Field(default=None, gt=0, description="entries of a base that is trained here")
    keeps: Literal["most-used", "all-but-chinese"] = Field(default="most-used", description="what stays of the base")
    base_size: int | None = Field(default=None, gt=0, description="entries that stay, by use on the other sources")
    keep_first: int = Field(default=0, ge=0, description="first merges that stay however rare they are")
    continuation: Continuation = Field(default=Continuation(), description="how new entries are chosen")
