"""The HTTP routes: they parse, call the service, and shape its reply; nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import metadata
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.cors import CORSMiddleware

from atts_core.events import Event
from services import reply
from services.access import Access, all_keys
from services.body_limit import BodyLimit
from services.calibration_routes import calibration_routes
from services.chat_stream import ChatStream
from services.disconnect import unless_disconnected
from services.http_errors import add_error_handlers
from services.run_routes import KEY_HEADER, RUN_HEADER, asked_by, run_routes
from services.runs.live import LiveRun
from services.runs.registry import Runs
from services.service import Outcome, Service
from services.settings import Settings
from services.streaming import first_of, resumed, stream
from services.wire import ChatRequest, model_names, policy_of

VERSION = metadata.version("atts")


class Backend(Protocol):
    """What the routes need: a service, what is known of calibration, and whether all is up."""

    settings: Settings
    service: Service
    runs: Runs

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
    add_middlewares(app, backend.settings)
    add_error_handlers(app)
    app.include_router(calibration_routes(backend))
    app.include_router(run_routes(backend))
    served = backend.settings.served_model
    began = int(time.time())

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether this process lives."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """Whether questions can be answered: both models and the store, one by one."""
        state = await backend.ready()
        return JSONResponse(state, status_code=200 if state["ready"] else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The served model, and the policies it can be asked for by name."""
        return {
            "object": "list",
            "data": [_model(name, began) for name in model_names(served)],
        }

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One of the served names."""
        policy_of(name, served)
        return _model(name, began)

    @app.get("/version")
    async def version() -> dict[str, str]:
        """The version of this server."""
        return {"version": VERSION}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation; the `atts` object tunes one request and explains its answer."""
        body.refuse_unsupported()
        method = body.method(backend.settings)
        messages = body.conversation()
        n = body.n or 1
        asked = asked_by(request, body)
        chat = ChatStream(
            body.model,
            n=n,
            every=body.atts is not None and body.atts.events,
            include_usage=body.stream_options is not None and body.stream_options.include_usage,
        )
        run: LiveRun

        async def answer(emit: Callable[[Event], None]) -> Outcome:
            nonlocal run
            run = await backend.runs.open(asked, body.model, method, messages, completion)
            chat.run_id = run.identity.id
            return await run.join(emit)

        def completion(outcome: Outcome) -> dict[str, Any]:
            return reply.completion(outcome, body.model, backend.calibration(), n=n)

        if body.stream:
            chunks = stream(
                answer,
                event=chat.event,
                end=lambda outcome: chat.end(outcome, backend.calibration()),
            )
            # The run has started when its first chunk is there: what fails before that (a prompt
            # too long, no room) still gets a status of its own.
            first = await unless_disconnected(request, first_of(chunks))
            return StreamingResponse(
                resumed(first, chunks),
                media_type="text/event-stream",
                headers={RUN_HEADER: run.identity.id},
            )
        await unless_disconnected(request, answer(lambda event: None))
        assert run.ending is not None, "it has been joined to its end"
        return JSONResponse(run.ending.reply, headers={RUN_HEADER: run.identity.id})

    return app


def add_middlewares(app: FastAPI, settings: Settings) -> None:
    """From the outermost inwards: browsers' rules, keys, the body's size."""
    app.add_middleware(BodyLimit, limit=settings.limits.max_body_bytes)
    app.add_middleware(Access, keys=all_keys(settings.access))
    if settings.access.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.access.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id", KEY_HEADER],
            expose_headers=["x-request-id", RUN_HEADER],
        )


def _model(name: str, began: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": began, "owned_by": "atts"}
