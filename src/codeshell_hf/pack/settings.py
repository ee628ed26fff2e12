"""Sections of settings: how documents are changed, and what packed rows are drawn from."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..settings import Section


class Perturbation(Section):
    """Small changes of syntax, as augmentation."""

    rate: float = Field(gt=0, le=1, description="share of training documents in known languages that are changed")
    seed: int = Field(default=0, ge=0, description="decides which documents, and how")


class MixtureSettings(Section):
    """Further shards that a training run draws from."""

    shards: Path = Field(description="output of pack, or a folder of datatrove's .ds files")
    share: float = Field(gt=0, lt=1, description="of all tokens; what is left of 1 is the recipe's own shards'")


class InfillingSettings(Section):
    """Fill-in-the-middle."""

    level: Literal["token", "character"] = Field(default="token", description="what documents are cut between")
    rate: float = Field(default=0.5, ge=0, le=1, description="share of documents that are rearranged")
    spm_rate: float = Field(default=0.5, ge=0, le=1, description="share of those with the suffix first")
