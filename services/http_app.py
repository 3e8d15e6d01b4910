"""The HTTP routes: they parse, call the service, and shape its reply; nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from atts_core.errors import (
    AttsError,
    BadInput,
    EngineError,
    Overloaded,
    RunFailed,
    UnknownModel,
)
from atts_core.events import Event
from atts_core.settings import bad_input
from services import reply
from services.body_limit import BodyLimit
from services.calibration_routes import calibration_routes
from services.service import Outcome, Service, new_run_id
from services.settings import Settings
from services.wire import ChatRequest, error_body, model_names

T = TypeVar("T")


class Backend(Protocol):
    """What the routes need: a service, what is known of calibration, and whether all is up."""

    settings: Settings
    service: Service

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

    app = FastAPI(title="ATTS", version="0.1.0", lifespan=lifespan)
    app.add_middleware(BodyLimit, limit=backend.settings.limits.max_body_bytes)
    _add_errors(app)
    app.include_router(calibration_routes(backend))
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
            "data": [
                {"id": name, "object": "model", "created": began, "owned_by": "atts"}
                for name in model_names(served)
            ],
        }

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation; the `atts` object tunes one request and explains its answer."""
        body.refuse_unsupported()
        method = body.method(backend.settings.method, backend.settings.limits, served)
        messages = body.conversation()
        run_id = new_run_id()

        async def answer(emit: Callable[[Event], None]) -> Outcome:
            return await backend.service.answer(messages, method, run_id=run_id, emit=emit)

        if body.stream:
            wants_events = body.atts is not None and body.atts.events
            usage = body.stream_options is not None and body.stream_options.include_usage
            stream = _stream(
                answer,
                event=lambda e: reply.event_chunk(run_id, body.model, e) if wants_events else None,
                end=lambda outcome: reply.chunks(
                    outcome, body.model, backend.calibration(), include_usage=usage
                ),
            )
            # The first chunk is awaited here: what fails at once still gets its own status.
            first = await anext(stream)
            return StreamingResponse(_resumed(first, stream), media_type="text/event-stream")
        outcome = await unless_disconnected(request, answer(lambda event: None))
        return reply.completion(outcome, body.model, backend.calibration())

    return app


# ---------------------------------------------------------------------------- plain requests


class ClientGone(Exception):
    """The client has closed its connection: nobody waits for the answer."""


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, but stop it as soon as the client has gone."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# --------------------------------------------------------------------------------- streaming


async def _stream(
    answer: Callable[[Callable[[Event], None]], Awaitable[Outcome]],
    *,
    event: Callable[[Event], dict[str, Any] | None],
    end: Callable[[Outcome], list[dict[str, Any]]],
) -> AsyncIterator[bytes]:
    """Server-sent events of one run, which ends with the iterator, whoever ends it."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def run() -> Outcome:
        try:
            return await answer(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (happened := await queue.get()) is not None:
            chunk = event(happened)
            if chunk is not None:
                yield _sse(chunk)
        for chunk in end(await running):
            yield _sse(chunk)
        yield b"data: [DONE]\n\n"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream from its first chunk on; an error in the middle is its last chunk.

    A client takes a stream that is merely cut for a whole one, so a failure must be said.
    """
    yield first
    try:
        async for chunk in rest:
            yield chunk
    except AttsError as error:
        yield _sse(_described(error)[1])


def _sse(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


# ------------------------------------------------------------------------------------ errors


def _described(error: AttsError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The one place where an error becomes a status, a body in OpenAI's shape, and headers."""
    match error:
        case UnknownModel():
            body = error_body(
                error.message, "invalid_request_error", param="model", code="model_not_found"
            )
            return 404, body, {}
        case BadInput():
            code = "invalid_value"
            body = error_body(error.message, "invalid_request_error", param=error.field, code=code)
            return 400, body, {}
        case Overloaded():
            body = error_body(error.message, "rate_limit_error", code="overloaded")
            return 429, body, {"Retry-After": str(max(1, round(error.retry_after)))}
        case RunFailed() | EngineError():
            body = error_body(str(error), "server_error", code="engines_failed")
            return 503, body, {"Retry-After": "1"}
        case _:
            return 500, error_body(str(error), "server_error", code="internal_error"), {}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(AttsError)
    async def on_atts_error(request: Request, error: AttsError) -> JSONResponse:
        status, body, headers = _described(error)
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_body(request: Request, error: RequestValidationError) -> JSONResponse:
        status, body, headers = _described(_complaint(error))
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        body = error_body(f"{request.method} {request.url.path}: {error.detail}", kind)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(ClientGone)
    async def on_client_gone(request: Request, error: ClientGone) -> JSONResponse:
        # Nobody reads it; the status is nginx's, for logs in between.
        return JSONResponse(error_body("the client has gone", "client_error"), status_code=499)


def _complaint(error: RequestValidationError) -> BadInput:
    """FastAPI's first complaint about a body, in our words."""
    errors = error.errors()
    # Of a union's members each complains: the one that came furthest is the one that was meant.
    first = max(errors, key=lambda e: len(e["loc"])) if _of_one_field(errors) else errors[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return BadInput(f"the body is no valid JSON: {reason} at position {first['loc'][-1]}")
    path = first["loc"][1:]
    if not path:
        return BadInput(f"the body must be a JSON object: {first['msg'].lower()}")
    return bad_input({**first, "loc": path}, ChatRequest)


def _of_one_field(errors: Sequence[Any]) -> bool:
    """Whether all complaints are about one message's content, which may be of two types."""
    return len({tuple(error["loc"][:4]) for error in errors}) == 1
