"""Requests that cannot be answered, in the form of OpenAI's errors."""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.responses import JSONResponse

TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 500: "server_error",
     503: "server_error"}
)  # fmt: skip


class Refusal(Exception):
    """A request that is refused.

    Args:
        message: The value, the rule and the fix.
        param: The parameter that is wrong, if it is one.
        code: A word for programs, such as `context_length_exceeded`.
        status: Of HTTP.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status

    def to_json(self) -> dict[str, object]:
        """The body of the answer."""
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def to_response(self) -> JSONResponse:
        """The answer; one that may be asked again says when."""
        headers = {429: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(self.status)
        return JSONResponse(self.to_json(), self.status, headers)
