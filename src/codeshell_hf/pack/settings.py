"""Sections of settings: how documents are changed, and what packed rows are drawn from."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..settings import Section


class Perturbation(Section):
    """Small changes of syntax, as augmentation."""

    rate: float = Field(gt=0, le=1, description="share of training documents in known languages that are changed")
    seed: int = Field(default=0, ge=0, description="decides which documents, and how")


class RepositorySettings(Section):
    """Documents that join the files of a repository."""

    documents: Path | None = Field(
        default=None, description="output of curate whose files are joined; null: the one that is packed"
    )
    row_tokens: int = Field(default=8192, gt=16, description="a document with its end and sentinels fits such a row")
    min_files: int = Field(default=2, gt=0, description="repositories with fewer are left out")
    min_jaccard: float | None = Field(
        default=0.7, gt=0, le=1, description="shared lines from which two repositories are near; null keeps both"
    )

    @property
    def max_tokens(self) -> int:
        """Of a document: a row without the end of text and three sentinels."""
        return self.row_tokens - 4


class MixtureSettings(Section):
    """Further shards that a training run draws from."""

    shards: Path = Field(description="output of pack, or a folder of datatrove's .ds files")
    share: float = Field(gt=0, lt=1, description="of all tokens; what is left of 1 is the recipe's own shards'")


class InfillingSettings(Section):
    """Fill-in-the-middle."""

    level: Literal["token", "character"] = Field(default="token", description="what documents are cut between")
    rate: float = Field(default=0.5, ge=0, le=1, description="share of documents that are rearranged")
    spm_rate: float = Field(default=0.5, ge=0, le=1, description="share of those with the suffix first")
