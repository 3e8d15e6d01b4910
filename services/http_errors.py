"""The one place where an error becomes a status and a body in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from atts_core.errors import (
    AttsError,
    BadInput,
    DeadlinePassed,
    EngineError,
    EngineFull,
    KeyReused,
    Overloaded,
    PolicyLacks,
    RunCancelled,
    RunFailed,
    StoreUnavailable,
    UnknownModel,
    UnknownRun,
)
from atts_core.settings import bad_input
from services.disconnect import ClientGone
from services.json_body import Unreadable
from services.wire import error_body

_HEADERS = {503: {"Retry-After": "1"}, 504: {"x-should-retry": "false"}}
"""What a client does next: come again, or, as it had a deadline, not by itself."""


INTERNAL = error_body("internal error", "server_error", code="internal_error")
"""The body for what is no error of ours: what it was is for the logs, not for clients."""


class Relayed(AttsError):
    """A run that ended without an answer, with the status and the body that its clients get."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body["error"]["message"])
        self.status = status
        self.body = body


def described(error: AttsError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of an error."""
    match error:
        case UnknownModel():
            body = error_body(
                error.message, "invalid_request_error", param="model", code="model_not_found"
            )
            return 404, body, {}
        case UnknownRun():
            body = error_body(
                error.message, "invalid_request_error", param="id", code="run_not_found"
            )
            return 404, body, {}
        case KeyReused():
            body = error_body(
                error.message,
                "invalid_request_error",
                param=error.field,
                code="idempotency_key_reused",
            )
            return 422, body, {}
        case BadInput():
            code = "policy_unavailable" if isinstance(error, PolicyLacks) else "invalid_value"
            body = error_body(error.message, "invalid_request_error", param=error.field, code=code)
            return 400, body, {}
        case Overloaded() | EngineFull():
            body = error_body(error.message, "rate_limit_error", code="overloaded")
            return 429, body, {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
        case RunCancelled():
            # OpenAI's clients repeat a 409 unless told not to: it would start the run anew.
            body = error_body(str(error), "invalid_request_error", code="run_cancelled")
            return 409, body, {"x-should-retry": "false"}
        case StoreUnavailable():
            body = error_body(str(error), "server_error", code="store_unavailable")
            return 503, body, {"Retry-After": "1"}
        case Relayed():
            return error.status, error.body, _HEADERS.get(error.status, {})
        case DeadlinePassed():
            body = error_body(
                str(error), "server_error", param="atts.deadline_ms", code="deadline_passed"
            )
            return 504, body, _HEADERS[504]
        case RunFailed() | EngineError():
            body = error_body(str(error), "server_error", code="engines_failed")
            return 503, body, {"Retry-After": "1"}
        case _:
            return 500, error_body(str(error), "server_error", code="internal_error"), {}


def add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(AttsError)
    async def on_atts_error(request: Request, error: AttsError) -> JSONResponse:
        status, body, headers = described(error)
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_body(request: Request, error: RequestValidationError) -> JSONResponse:
        status, body, headers = described(_complaint(error, _body_of(request)))
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(Unreadable)
    async def on_unreadable_body(request: Request, error: Unreadable) -> JSONResponse:
        status, body, headers = described(BadInput(error.detail, field=error.field))
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        body = error_body(f"{request.method} {request.url.path}: {error.detail}", kind)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def on_fault(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again once this is sent: the server logs it.
        return JSONResponse(INTERNAL, status_code=500)

    @app.exception_handler(ClientGone)
    async def on_client_gone(request: Request, error: ClientGone) -> JSONResponse:
        # Nobody reads it; the status is nginx's, for logs in between.
        return JSONResponse(error_body("the client has gone", "client_error"), status_code=499)


def _body_of(request: Request) -> type[BaseModel]:
    """The model that the route's `body` was read as; a bare one for a route without."""
    kind: type[BaseModel] = get_type_hints(request.scope["endpoint"]).get("body", BaseModel)
    return kind


def _complaint(error: RequestValidationError, kind: type[BaseModel]) -> BadInput:
    """FastAPI's first complaint about a body, in our words."""
    errors = error.errors()
    # Of a union's members each complains: the one that came furthest is the one that was meant.
    first = max(errors, key=lambda e: len(e["loc"])) if _of_one_field(errors) else errors[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return BadInput(f"the body is no valid JSON: {reason} at position {first['loc'][-1]}")
    where, *path = first["loc"]
    if where in ("query", "path"):
        name = str(path[0])
        return BadInput(f"{name}: found {first['input']!r}; {first['msg']}", field=name)
    if not path and first["type"] == "string_unicode":
        name = str(first["input"]).encode("unicode_escape").decode()
        return BadInput(f"{name}: unknown field, whose name is no Unicode text", field=name)
    if not path:
        return BadInput(f"the body must be a JSON object: {first['msg'].lower()}")
    return bad_input({**first, "loc": path}, kind)


def _of_one_field(errors: Sequence[Any]) -> bool:
    """Whether all complaints are about one message's content, which may be of two types."""
    return len({tuple(error["loc"][:4]) for error in errors}) == 1
