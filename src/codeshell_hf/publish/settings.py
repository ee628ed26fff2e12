"""Settings of publishing."""

from typing import Literal

from pydantic import Field

from ..settings import Section


class CardSettings(Section):
    """Values of the card that are in no manifest."""

    name: str = Field(description="the model's name")
    license: str = Field(default="apache-2.0", description="the Hub's name of the weights' licence")
    published: str = Field(description="the name of the evaluated model to publish")
    summary: str | None = Field(default=None, description="a paragraph for the card's beginning, in Markdown")
    base_model: str | None = Field(
        default=None, description="owner/name on the Hub of the model that was tuned; null: what pretrain started from"
    )


class PromptSettings(Section):
    """A prompt for the published model."""

    kind: Literal["completion", "chat"] = Field(description="chat applies the chat template")
    prompt: str = Field(description="text to continue or answer")
    max_new_tokens: int = Field(default=48, gt=0, description="longest answer")


class PushSettings(Section):
    """Where to push."""

    repository: str = Field(description="owner/name of the model on the Hub")
    dataset: str | None = Field(
        default=None, description="owner/name for the curated documents; null does not push them"
    )
    tokenizer: str | None = Field(default=None, description="owner/name for the tokenizer alone; null does not push it")
    private: bool = Field(default=True, description="make new repositories private")
    revision: str | None = Field(default=None, description="branch, created if missing; null is main")
    pull_request: bool = Field(default=False, description="open a pull request instead of committing")
    message: str = Field(default="Publish with codeshell-hf", description="the commit's subject")
