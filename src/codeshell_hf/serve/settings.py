"""Limits of the server."""

from pydantic import Field

from ..settings import Section


class ServeSettings(Section):
    """What the server admits at once, and from one request."""

    max_rows: int = Field(default=32, ge=1, description="outputs that are generated together")
    max_batch_tokens: int = Field(default=65_536, ge=1, description="rows times the longest of them, at most")
    max_waiting: int = Field(default=256, ge=0, description="outputs that wait; more are answered with 429")
    max_choices: int = Field(default=16, ge=1, description="n of a request, and prompts of one")
    max_new_tokens: int | None = Field(default=None, ge=1, description="longest output; None for the context")
    max_body_bytes: int = Field(default=4_194_304, ge=1, description="longest body of a request")
    body_timeout_s: float = Field(default=30, gt=0, description="until a request's body must have arrived")
    key: str | None = Field(default=None, min_length=1, repr=False, description="that requests must carry")
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="pages in browsers that may call the server, besides editors and loopback; * for all"
    )
    allowed_hosts: tuple[str, ...] | None = Field(
        default=None, description="names under which the server may be called; None for all"
    )
