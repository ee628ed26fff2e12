"""Settings that wings share: models behind a server, and how data are read."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..settings import Input, Section

FormatName = Literal[
    "auto", "messages", "sharegpt", "codeshell", "codeshell-original", "alpaca", "question-answer", "commitpack",
    "input-output", "text", "prompt", "oasst", "chatgpt", "moss",
]  # fmt: skip


class ServerSettings(Section):
    """A model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

    url: str | None = Field(description="base address, such as http://127.0.0.1:8000/v1; null for the Hub's providers")
    model: str = Field(description="the model's name there")
    token_variable: str | None = Field(default=None, description="environment variable with the server's key")


class JudgeSettings(ServerSettings):
    """A model that judges answers."""

    max_requests: int = Field(default=1000, gt=0, description="budget of a run; each pair costs two")
    max_reply_tokens: int = Field(default=512, gt=0, description="room for the judge's reasons and its verdict")


class Reading(Section):
    """How files of conversations and pairs are read."""

    format: FormatName = Field(default="auto", description="the form of rows; auto recognises each row's")
    max_bad_rows: int = Field(default=100, ge=0, description="rows that may be malformed before the run stops")
    opening_answer: Literal["keep", "cut", "drop"] = Field(
        default="keep",
        description="of a conversation that the assistant begins: keep that turn without loss, cut it, or drop all",
    )
    tools: Literal["write", "drop"] = Field(
        default="write", description="write tools, calls and results into the turns, or drop such conversations"
    )
    reasoning: Literal["write", "drop"] = Field(
        default="write", description="write reasoning fields before the answer, between <think> tags, or drop them"
    )

    def get_reading(self) -> "Reading":
        """These settings without those of a stage that has them among others."""
        return Reading(**{name: getattr(self, name) for name in Reading.model_fields})


def _find_local(place: str) -> Path | None:
    return None if place.startswith("hub:") else Path(place)


DataPlace = Annotated[str, Input(_find_local)]
"""A file or folder that a stage reads, or `hub:OWNER/NAME@REVISION`, as a type of settings."""
