"""The HTTP routes: they parse, call the service, and shape its reply; nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import metadata
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from services import reply
from services.access import Access, all_keys
from services.answering import answered
from services.body_limit import BodyLimit
from services.calibration_routes import calibration_routes
from services.chat_stream import ChatStream
from services.completions import completion_routes
from services.http_errors import add_error_handlers
from services.json_body import StrictRoute
from services.openapi import CHAT_EXAMPLES, add_document, answering, described
from services.page import page_routes
from services.run_routes import run_routes
from services.runs.registry import Runs
from services.schemas import ChatCompletion, Health, ModelList, ModelReply, Readiness, Version
from services.service import Service
from services.settings import Settings
from services.watching import RUN_HEADER, Watch, Watcher
from services.wire import ChatRequest, model_names, policy_of

VERSION = metadata.version("atts")


class Backend(Protocol):
    """What the routes need: a service, what is known of calibration, and whether all is up."""

    settings: Settings
    service: Service
    runs: Runs
    watchers: list[Watcher]

    def calibration(self) -> dict[str, Any]: ...
    def store(self) -> dict[str, Any]: ...
    async def ready(self) -> dict[str, Any]: ...
    def lifespan(self) -> AbstractAsyncContextManager[None]: ...


def create_app(backend: Backend) -> FastAPI:
    """The ASGI application over `backend`, for Serve's router and for one process alike."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with backend.lifespan():
            yield

    app = FastAPI(title="ATTS", version=VERSION, lifespan=lifespan)
    app.router.route_class = StrictRoute
    add_middlewares(app, backend)
    add_error_handlers(app)
    add_document(app, keys=bool(all_keys(backend.settings.access)))
    app.include_router(calibration_routes(backend))
    app.include_router(run_routes(backend))
    app.include_router(completion_routes(backend))
    app.include_router(page_routes())
    served = backend.settings.served_model
    began = int(time.time())

    @app.get("/health", responses={200: {"model": Health}})
    async def health() -> dict[str, str]:
        """Whether this process lives."""
        return {"status": "ok"}

    @app.get(
        "/ready",
        response_model=None,
        responses=described(Readiness)["responses"]
        | {503: {"model": Readiness, "description": "not yet, or no more"}},
    )
    async def ready() -> JSONResponse:
        """Whether questions can be answered: both models and the store, one by one."""
        state = await backend.ready()
        return JSONResponse(state, status_code=200 if state["ready"] else 503)

    @app.get("/v1/models", **described(ModelList))
    async def models() -> dict[str, Any]:
        """The served model, and the policies it can be asked for by name."""
        return {
            "object": "list",
            "data": [_model(name, began) for name in model_names(served)],
        }

    @app.get("/v1/models/{name:path}", **described(ModelReply, 404))
    async def model(name: str) -> dict[str, Any]:
        """One of the served names."""
        policy_of(name, served)
        return _model(name, began)

    @app.get("/version", **described(Version))
    async def version() -> dict[str, Any]:
        """The version of this server, and how it answers who asks for nothing else."""
        return {"version": VERSION, "method": backend.settings.method.model_dump(mode="json")}

    @app.post(
        "/v1/chat/completions", response_model=None, **answering(ChatCompletion, CHAT_EXAMPLES)
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation; the `atts` object tunes one request and explains its answer."""
        body.refuse_unsupported()
        method, n = body.method(backend.settings), body.n or 1
        return await answered(
            backend,
            request,
            body,
            method,
            body.conversation(),
            kind="chatcmpl",
            whole=lambda outcome: reply.completion(outcome, body.model, backend.calibration(), n=n),
            chunks=ChatStream(
                body.model,
                n=n,
                every=body.events,
                include_usage=body.include_usage,
                stop=method.stop,
            ),
        )

    return app


def add_middlewares(app: FastAPI, backend: Backend) -> None:
    """From the outermost inwards: who watches, browsers' rules, keys, the body's size."""
    settings = backend.settings
    app.add_middleware(
        BodyLimit,
        limit=settings.limits.max_body_bytes,
        seconds=settings.limits.max_body_seconds,
    )
    app.add_middleware(Access, keys=all_keys(settings.access))
    if settings.access.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.access.cors_origins,
            allow_methods=["GET", "POST"],
            # All: OpenAI's client tells of itself in a dozen `x-stainless-…`, and in more of them
            # with each release.
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id", "x-should-retry", RUN_HEADER],
        )
    app.add_middleware(Watch, watchers=backend.watchers)


def _model(name: str, began: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": began, "owned_by": "atts"}
