"""The OpenAPI document: examples of requests, and what each route answers, errors included."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from services.access import OPEN_PATHS
from services.schemas import ErrorReply

ABOUT = (
    "Answers hard questions with a small model's speed and a large model's judgement. The API is "
    "OpenAI's; the object `atts` tunes a request and explains its answer."
)

QUESTION = "Start with 47. Add 38. Multiply by 3. What is the result?"

CHAT_EXAMPLES: dict[str, Any] = {
    "question": {
        "summary": "a question, eight candidates, a seed",
        "value": {
            "model": "atts",
            "messages": [{"role": "user", "content": QUESTION}],
            "atts": {"candidates": 8, "takeover_rate": 0.4, "seed": 1},
        },
    },
    "stream": {
        "summary": "streamed, with every event of the run",
        "value": {
            "model": "atts",
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "atts": {"candidates": 4, "events": True},
        },
    },
    "policy": {
        "summary": "the target alone, the two best distinct answers",
        "value": {
            "model": "atts:target-only",
            "messages": [{"role": "user", "content": QUESTION}],
            "n": 2,
            "stop": ["\n\n"],
        },
    },
}

TEXT_EXAMPLES: dict[str, Any] = {
    "prompt": {
        "summary": "a prompt",
        "value": {"model": "atts", "prompt": QUESTION, "atts": {"candidates": 4, "seed": 1}},
    },
}

_ERRORS = {
    400: "a field, or the JSON itself, is wrong; `param` names the field",
    401: "no valid API key",
    404: "a model, a path or a run that is not here",
    408: "the body did not arrive within limits.max_body_seconds",
    409: "the run was cancelled by its id",
    413: "the body is larger than limits.max_body_bytes",
    422: "the `Idempotency-Key` came before with another body",
    429: "no room now, or the key may not ask more: try again after `Retry-After`",
    503: "the engines failed: try again after `Retry-After`",
    504: "the question's deadline passed before any chain had begun",
}

GUARDED = (401, 429)
"""What any route that wants a key may answer, where keys are set."""

FASTAPI_422 = "Validation Error"
"""How FastAPI describes a status that our error handlers never answer with by themselves."""

KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "description": "a request that comes again with the same key gets the same run",
}


def add_document(app: FastAPI, *, keys: bool) -> None:
    """Let `app` describe itself as it is: errors never have FastAPI's own shape and status, and
    with `keys` every route but `/health` wants one."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = made = get_openapi(
                title=app.title, version=app.version, description=ABOUT, routes=app.routes
            )
            operations = [
                (path, one) for path, item in made["paths"].items() for one in item.values()
            ]
            for path, operation in operations:
                if operation["responses"].get("422", {}).get("description") == FASTAPI_422:
                    del operation["responses"]["422"]
                if keys and path not in OPEN_PATHS:
                    operation["security"] = [{"key": []}]
            schemas = made["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            if keys:
                made["components"]["securitySchemes"] = {
                    "key": {"type": "http", "scheme": "bearer"}
                }
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of these statuses, for FastAPI."""
    return {status: {"model": ErrorReply, "description": _ERRORS[status]} for status in statuses}


def described(kind: type[BaseModel], *statuses: int) -> dict[str, Any]:
    """How a route is described that answers `kind`, or an error of these statuses."""
    return {"responses": {200: {"model": kind}} | errors(*GUARDED, *statuses)}


def answering(kind: type[BaseModel], examples: dict[str, Any]) -> dict[str, Any]:
    """The same for a route that answers questions, streamed where that is asked for."""
    events = {
        # OpenAPI 3.2's word for what a stream is made of.
        "itemSchema": {
            "type": "object",
            "properties": {
                "data": {"type": "string", "description": "a chunk as JSON, an error, or [DONE]"}
            },
        },
        "example": 'data: {"object": "chat.completion.chunk", …}\n\ndata: [DONE]\n\n',
    }
    return {
        "responses": {
            200: {"model": kind, "content": {"text/event-stream": events}},
            **errors(400, 401, 404, 408, 409, 413, 422, 429, 503, 504),
        },
        "openapi_extra": {
            "parameters": [KEY],
            "requestBody": {"content": {"application/json": {"examples": examples}}},
        },
    }
