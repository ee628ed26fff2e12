"""Settings of the tokenizer builder."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from codeshell_hf.settings import Input, InputPath, Section
from codeshell_hf.text.pre_tokenizers import STARCODER, SplitName

NewMerges = Literal["beyond-ascii", "chinese"]


class TextSource(Section):
    """A source of texts."""

    name: str = Field(description="name in reports", pattern=r"^[\w.-]+$")
    path: InputPath = Field(description="a .txt, .jsonl, .jsonl.gz or .parquet file, the output of curate, or a folder")
    language: str | None = Field(
        default=None, description="reads only this language of curated documents or a folder; null: all"
    )
    weight: float = Field(default=1.0, gt=0, description="share of the sample, relative to the others'")


class Continuation(Section):
    """Which new entries are added to a base vocabulary."""

    new_merges: NewMerges = Field(
        default="beyond-ascii",
        description="characters that a new merge must contain; with chinese, all other text is tokenized as before",
    )
    floor: Literal["none", "chinese"] = Field(
        default="none",
        description="characters that always get an entry; chinese: level 1 of GB/T 2312 and punctuation",
    )
    max_characters: int = Field(default=8, ge=1, le=64, description="longest new entry in characters")
    min_sources: int = Field(
        default=1, ge=1, description="number of sources that must contain a new entry, or all if there are fewer"
    )
    source_exponent: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="exponent of a source's frequency in the mean that ranks entries: 1 ranks by frequency; lower "
        "values favour entries of many sources",
    )


class Bpe(Section):
    """Settings of a BPE that is trained from scratch."""

    split: SplitName = Field(
        default=STARCODER,
        description="pre-tokenizer: starcoder, or gpt4, whose words include a preceding sign or a line's end",
    )
    across_words: int | None = Field(
        default=None, gt=0, description="how many entries may join words (SuperBPE); null keeps all within words"
    )


def _find_base(name: str) -> Path:
    from .vocabulary import find_base

    return find_base(name)


class Merged(Section):
    """How a base vocabulary is pruned and extended with another language."""

    extend_with: tuple[str, ...] = Field(description="names of the sources of new entries", min_length=1)
    base: Annotated[str, Input(_find_base)] | None = Field(
        default=None, description="tokenizer.json to start from, a path or owner/name on the Hub; null trains one here"
    )
    trained_size: int | None = Field(default=None, gt=0, description="entries of a base that is trained here")
    keeps: Literal["most-used", "all-but-chinese"] = Field(
        default="most-used", description="which entries of the base are kept"
    )
    base_size: int | None = Field(default=None, gt=0, description="entries kept, by use on the other sources")
    keep_first: int = Field(default=0, ge=0, description="first merges that are kept even if they are rare")
    continuation: Continuation = Field(default=Continuation(), description="how new entries are chosen")
