"""Settings of packing, of packed rows and of mixtures of shards."""

from typing import Literal

from pydantic import Field, field_validator

from ..settings import InputPath, Section

Packing = Literal["best-fit", "end-to-end"]
CutLevel = Literal["token", "character", "line", "syntax"]


class Perturbation(Section):
    """Augmentation by small changes of code that keep its syntax tree."""

    rate: float = Field(gt=0, le=1, description="share of training documents in supported languages that are changed")
    seed: int = Field(default=0, ge=0, description="decides which documents are changed, and how")


class RepositorySettings(Section):
    """Documents that join the files of a repository."""

    documents: InputPath | None = Field(
        default=None, description="output of curate whose files are joined; null: the one that is packed"
    )
    row_tokens: int = Field(
        default=8192, gt=16, description="length of a row, which each document fits with its end of text and sentinels"
    )
    min_files: int = Field(default=2, gt=0, description="repositories with fewer files are left out")
    min_jaccard: float | None = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Jaccard similarity of their lines from which repositories are near duplicates; null keeps all",
    )

    @property
    def max_tokens(self) -> int:
        """Longest document: a row less the end of text and three sentinels."""
        return self.row_tokens - 4


class EncodingSettings(Section):
    """How documents are encoded."""

    tokenizer: InputPath = Field(description="output of tokenizer, or any CodeShell tokenizer's folder")
    perturbation: Perturbation | None = Field(
        default=None, description="augmentation that keeps the syntax tree; null: none"
    )
    part_bytes: int = Field(default=64_000_000, gt=0, description="bytes of the files that become one token file")
    workers: int | None = Field(
        default=None, gt=0, description="number of processes; null: by size, up to one per core"
    )


class MixtureSettings(Section):
    """Further shards that a training run draws from."""

    shards: InputPath = Field(description="output of pack, a split of it, or a folder of datatrove's .ds files")
    share: float = Field(gt=0, lt=1, description="share of all tokens; the recipe's own shards get the rest")
    min_row_tokens: int = Field(default=0, ge=0, description="used only in phases whose rows are at least this long")
    from_phase: int = Field(default=1, gt=0, description="the first phase in which they are used, counted from 1")


class RowSettings(Section):
    """How documents become rows."""

    packing: Packing = Field(
        default="best-fit", description="best-fit cuts no document that fits a row; end-to-end cuts where a row ends"
    )
    predicts_first_token: bool = Field(
        default=False, description="an end-of-text token before each document, so that its first token is a target"
    )


class InfillingSettings(Section):
    """Fill-in-the-middle."""

    rate: float = Field(default=0.5, ge=0, le=1, description="share of pieces that are rearranged")
    spm_rate: float = Field(default=0.5, ge=0, le=1, description="share of the rearranged with the suffix first")
    cuts: dict[CutLevel, float] = Field(
        default={"token": 1.0},
        description="shares of the rearranged that are cut between tokens, characters, lines or syntax nodes",
    )

    @field_validator("cuts")
    @classmethod
    def check_cuts(cls, cuts: dict[CutLevel, float]) -> dict[CutLevel, float]:
        """Checks that the shares sum to 1."""
        if any(share < 0 for share in cuts.values()) or abs(sum(cuts.values()) - 1) > 1e-6:
            raise ValueError(f"infilling.cuts is {dict(cuts)}; let each share be 0 or more, and all together 1")
        return cuts


class DataSettings(Section):
    """What a model is trained on, and how it becomes rows."""

    shards: InputPath = Field(description="output of pack, or a folder of datatrove's .ds files")
    mixture: tuple[MixtureSettings, ...] = Field(default=(), description="further shards, by share")
    tokenizer: InputPath = Field(description="output of tokenizer; saved with the model")
    rows: RowSettings = Field(default_factory=RowSettings, description="how documents become rows")
    infilling: InfillingSettings | None = Field(default=None, description="fill-in-the-middle")
