"""The server's routes."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .access import EDITORS_AND_LOOPBACK, AccessGuard
from .chat_page import CHAT_PAGE, CONTENT_POLICY
from .editor_api import EditorApi
from .openai_api import OpenAIApi
from .refusals import Refusal
from .service import Service

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


def make_app(service: Service) -> Starlette:
    """Makes the server of a model; its batching starts and ends with it."""
    openai, editors, settings = OpenAIApi(service), EditorApi(service), service.settings

    async def show_page(request: Request) -> Response:
        return Response(CHAT_PAGE, media_type="text/html", headers={"Content-Security-Policy": CONTENT_POLICY})

    async def check_health(request: Request) -> Response:
        if not service.batching.is_alive:
            raise Refusal("the model is not running; start the server again", code="model_failed", status=503)
        active, waiting = service.batching.places
        return JSONResponse({"status": "ok", "active": active, "waiting": waiting})

    gets: dict[str, Handler] = {
        "/": show_page,
        "/health": check_health,
        "/v1/health": check_health,
        "/v1/models": openai.list_models,
        "/models": openai.list_models,
        "/v1/models/{name:path}": openai.get_model,
        "/props": editors.describe_llama,
        "/info": editors.describe_tgi,
    }
    posts: dict[str, Handler] = {
        "/v1/chat/completions": openai.chat,
        "/chat/completions": openai.chat,
        "/v1/completions": openai.complete,
        "/completions": openai.complete,
        "/load_model": openai.load_model,
        "/completion": editors.complete,
        "/infill": editors.infill,
        "/generate": editors.generate,
        "/generate_stream": editors.generate_stream,
    }
    routes = [Route(path, handler, methods=["GET"]) for path, handler in gets.items()]
    routes += [Route(path, handler, methods=["POST"]) for path, handler in posts.items()]

    @contextlib.asynccontextmanager
    async def run_batching(app: Starlette) -> AsyncIterator[None]:
        service.batching.start()
        try:
            yield
        finally:
            service.batching.close()

    anywhere = "*" in settings.allowed_origins
    cors = Middleware(
        CORSMiddleware,
        allow_origins=["*"] if anywhere else settings.allowed_origins,
        allow_origin_regex=EDITORS_AND_LOOPBACK,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
    )
    guard = Middleware(AccessGuard, key=settings.key, hosts=settings.allowed_hosts, origins=settings.allowed_origins)
    handlers = {
        Refusal: _answer_refusal,
        HTTPException: _answer_http_error,
        ClientDisconnect: _ignore_disconnect,
        Exception: _answer_failure,
    }
    # CORS is outside, so that a page can read why it was refused.
    return Starlette(routes=routes, lifespan=run_batching, middleware=[cors, guard], exception_handlers=handlers)


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for it
    return error.to_response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    path = request.url.path[:80]
    text = {404: f"there is no {path}", 405: f"{path} does not take {request.method}"}.get(
        error.status_code, error.detail
    )
    answer = Refusal(f"{text}; the documentation lists the server's paths", status=error.status_code).to_response()
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _ignore_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _answer_failure(request: Request, error: Exception) -> Response:
    logger.error("%s failed", request.url.path, exc_info=error)
    return Refusal("the server failed; its log says why", code="internal_error", status=500).to_response()
