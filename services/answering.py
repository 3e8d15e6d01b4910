"""From a request's body to its response: a run opened or joined, whole or as a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from atts_core.events import Event
from atts_core.settings import Method
from atts_core.types import Message
from services.disconnect import unless_disconnected
from services.reply import CalibrationState
from services.run_routes import caller_of
from services.runs.live import LiveRun
from services.runs.registry import Runs
from services.service import Outcome
from services.settings import Settings
from services.streaming import Chunk, first_of, resumed, stream
from services.watching import RUN_HEADER
from services.wire import Asked


class Answers(Protocol):
    """What answering needs of the backend."""

    settings: Settings
    runs: Runs

    def calibration(self) -> dict[str, Any]: ...


class Chunks(Protocol):
    """How one run looks as a stream; `run_id` is set before its first event."""

    run_id: str

    def event(self, event: Event) -> list[Chunk]: ...
    def end(self, outcome: Outcome, calibration: CalibrationState) -> list[Chunk]: ...


async def answered(
    backend: Answers,
    request: Request,
    body: Asked,
    method: Method,
    messages: tuple[Message, ...],
    *,
    kind: str,
    whole: Callable[[Outcome], dict[str, Any]],
    chunks: Chunks,
) -> Response:
    """The response to `body`: `whole` makes its JSON, `chunks` its stream where it asks for one.

    `kind` begins the run's id.
    """
    caller = await caller_of(request)
    run: LiveRun

    async def answer(emit: Callable[[Event], None]) -> Outcome:
        nonlocal run
        run = await backend.runs.open(caller, body.model, method, messages, whole, kind)
        chunks.run_id = run.identity.id
        return await run.join(emit)

    if not body.stream:
        await unless_disconnected(request, answer(lambda event: None))
        assert run.ending is not None, "it has been joined to its end"
        return JSONResponse(run.ending.reply, headers={RUN_HEADER: run.identity.id})
    sent = stream(
        answer,
        event=chunks.event,
        end=lambda outcome: chunks.end(outcome, backend.calibration()),
    )
    # The run has started when its first chunk is there: what fails before that (a prompt too long,
    # no room) still gets a status of its own.
    first = await unless_disconnected(request, first_of(sent))
    return StreamingResponse(
        resumed(first, sent),
        media_type="text/event-stream",
        headers={RUN_HEADER: run.identity.id},
    )
