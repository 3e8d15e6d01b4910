"""`/v1/atts/runs/ID`: what a run did and does, also live, and an end to it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from atts_core.errors import BadInput
from services.access import owner_of
from services.openapi import described
from services.runs.archive import Page, Status
from services.runs.registry import Caller, Runs
from services.watching import RUN_HEADER

KEY_HEADER = "idempotency-key"
MAX_KEY = 255


class RunState(BaseModel):
    """A run: how it stands, what it did, what it answered."""

    id: str
    object: str = "atts.run"
    status: Status
    created: float = Field(description="seconds since 1970")
    ended: float | None = Field(description="seconds since 1970; null while it is running")
    model: str
    seed: int
    method: dict[str, Any] = Field(description="every knob the answer was made with")
    events: list[dict[str, Any]] = Field(
        description="in order, from `after` on, as in a stream's `atts` chunks"
    )
    next: int = Field(description="send it as `after` for what happens later")
    more: bool = Field(description="whether there are more events already")
    reply: dict[str, Any] | None = Field(
        description="the response body, once it is finished; null where no history is kept"
    )
    error: dict[str, Any] | None = Field(
        description="why it failed or was cancelled; code run_cancelled: by its id, client_left: "
        "nobody waited for it any more, server_stopped: with its router"
    )


class RunsBackend(Protocol):
    runs: Runs


def run_routes(backend: RunsBackend) -> APIRouter:
    """The routes over `backend`."""
    routes = APIRouter(tags=["runs"])

    @routes.get("/v1/atts/runs/{run_id}", response_model=None, **described(RunState, 400, 404, 503))
    async def run(
        run_id: str,
        request: Request,
        after: Annotated[
            int, Query(ge=0, lt=2**31, description="events to leave out: `next` of before")
        ] = 0,
        limit: Annotated[int, Query(ge=0, le=10_000, description="events at most")] = 1_000,
    ) -> JSONResponse:
        """A run of the same API key by its id, live or finished, at whichever router it runs."""
        page = await backend.runs.read(run_id, owner_of(request.scope), after, limit)
        return JSONResponse(shown(page), headers={RUN_HEADER: run_id})

    @routes.post(
        "/v1/atts/runs/{run_id}/cancel",
        response_model=None,
        responses=described(RunState, 404, 503)["responses"]
        | {202: {"model": RunState, "description": "not yet ended"}},
    )
    async def cancel(run_id: str, request: Request) -> JSONResponse:
        """End a run wherever it runs; one that has ended stays as it is."""
        page = await backend.runs.cancel(run_id, owner_of(request.scope))
        status = 202 if page.ending is None else 200
        return JSONResponse(shown(page), status_code=status, headers={RUN_HEADER: run_id})

    return routes


def shown(page: Page) -> dict[str, Any]:
    """The page as the body of a response."""
    identity, ending = page.identity, page.ending
    error = None if ending is None or ending.error is None else ending.error[1]["error"]
    return {
        "id": identity.id,
        "object": "atts.run",
        "status": page.status,
        "created": identity.created,
        "ended": None if ending is None else ending.ended,
        **identity.question,
        "events": page.events,
        "next": page.next,
        "more": page.more,
        "reply": None if ending is None else ending.reply,
        "error": error,
    }


async def caller_of(request: Request) -> Caller:
    """Whose the request is, and by which key and body, byte by byte, it is known again.

    Raises `BadInput` for a key that is empty, too long or not printable.
    """
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return Caller(owner_of(request.scope))
    if not 1 <= len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise BadInput(
            f"Idempotency-Key: found {key[:80]!r}; it must be 1 to {MAX_KEY} printable ASCII "
            "characters, a UUID for example",
            field="Idempotency-Key",
        )
    asked = request.url.path.encode() + b"\n" + await request.body()
    return Caller(owner_of(request.scope), key, hashlib.sha256(asked).hexdigest())
