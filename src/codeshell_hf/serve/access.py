"""Who may ask: host names, pages in browsers, and the key."""

import re
import secrets
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .refusals import Refusal

OPEN_PATHS = frozenset({"/", "/health", "/v1/health"})
"""Answered without a key."""

EDITORS_AND_LOOPBACK = (
    # The page of CodeShell's plug-in for IntelliJ, and pages of VS Code's extensions.
    r"http://codeshell|vscode-webview://[\w-]+"
    r"|https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
)
"""Origins of pages that may call the server without being named in the settings."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Names under which a server on loopback may be called: another name that leads there is an attack by DNS."""


class AccessGuard:
    """Refuses requests under other host names, from pages of strangers, or without the key.

    A page in a browser can send requests to a server on loopback; it only cannot read the answers without CORS.

    Args:
        app: What is guarded.
        key: That requests carry as `Authorization: Bearer KEY` or `X-Api-Key: KEY`; `None` for no key.
        hosts: Names without a port; `None` for all.
        origins: Further origins of pages; "*" for all.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, hosts: Sequence[str] | None, origins: Sequence[str]) -> None:
        self.app = app
        self.key = key
        self.hosts = hosts
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with its refusal."""
        if scope["type"] == "http":
            try:
                self.check(scope["method"], scope["path"], Headers(scope=scope))
            except Refusal as refusal:
                await refusal.to_response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raises a `Refusal` if a request must not be answered."""
        host = headers.get("host", "")
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        if self.hosts is not None and name not in self.hosts:
            raise Refusal(f"host {host[:80]!r} is not this server's; call it as {self.hosts[0]}", status=403)
        origin = headers.get("origin")
        if origin is not None and not self._is_allowed(origin, host):
            raise Refusal(
                f"pages of {origin[:80]!r} may not call this server; start it with --allow-origin", status=403
            )
        if self.key is None or method == "OPTIONS" or path in OPEN_PATHS:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip() if scheme.lower() == "bearer" and given.strip() else headers.get("x-api-key", "")
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            text = "the key is wrong" if given else "there is no key"
            raise Refusal(
                f"{text}; send the server's as 'Authorization: Bearer KEY'", code="invalid_api_key", status=401
            )

    def _is_allowed(self, origin: str, host: str) -> bool:
        is_named = "*" in self.origins or origin in self.origins
        is_own = bool(host) and origin in (f"http://{host}", f"https://{host}")
        return is_named or is_own or re.fullmatch(EDITORS_AND_LOOPBACK, origin) is not None
