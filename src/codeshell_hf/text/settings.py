"""Settings of models behind a server."""

from pydantic import Field

from ..settings import Section


class ServerSettings(Section):
    """A model behind an OpenAI-compatible server, such as vLLM's or llama.cpp's."""

    url: str | None = Field(description="base address, such as http://127.0.0.1:8000/v1; null for the Hub's providers")
    model: str = Field(description="the model's name there")
    token_variable: str | None = Field(default=None, description="environment variable with the server's key")


class JudgeSettings(ServerSettings):
    """A model that judges answers."""

    max_requests: int = Field(default=1000, gt=0, description="budget of a run; each pair costs two")
    max_reply_tokens: int = Field(default=512, gt=0, description="room for the judge's reasons and its verdict")
