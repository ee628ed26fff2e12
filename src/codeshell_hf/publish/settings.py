"""Sections of publishing's settings."""

from typing import Literal

from pydantic import Field

from ..settings import Section


class CardSettings(Section):
    """What the card says and no manifest knows."""

    name: str = Field(description="the model's name")
    license: str = Field(default="apache-2.0", description="licence of the weights, as the Hub names it")
    published: str = Field(description="which of the evaluated models this is")


class PromptSettings(Section):
    """A prompt for the published model."""

    kind: Literal["completion", "chat"] = Field(description="whether the chat format is put around it")
    prompt: str = Field(description="what it continues or answers")
    max_new_tokens: int = Field(default=48, gt=0, description="longest answer")


class PushSettings(Section):
    """Where to push."""

    repository: str = Field(description="owner/name of the model on the Hub")
    dataset: str | None = Field(default=None, description="owner/name for the curated documents; null keeps them here")
    tokenizer: str | None = Field(default=None, description="owner/name for the tokenizer alone; null does not push it")
    private: bool = Field(default=True, description="whether only you see what is new")
    revision: str | None = Field(default=None, description="branch, created if missing; null is the main one")
    pull_request: bool = Field(default=False, description="whether a pull request is opened in place of a commit")
    message: str = Field(default="Publish with codeshell-hf", description="the commit's subject")
