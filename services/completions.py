"""`POST /v1/completions`: OpenAI's older route, for tools that speak no other; the same service."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field

from atts_core.errors import BadInput
from atts_core.events import Event, RunStarted, as_json
from atts_core.types import Message
from services import reply
from services.answering import Answers, answered
from services.json_body import StrictRoute
from services.openai_fields import TEXT
from services.openapi import TEXT_EXAMPLES, answering
from services.reply import CalibrationState
from services.schemas import TextCompletion
from services.service import Outcome
from services.streaming import Chunk
from services.wire import Asked


def _one_text(given: Any) -> Any:
    """Clients that batch prompts send one as a list of it."""
    one = isinstance(given, list) and len(given) == 1 and isinstance(given[0], str)
    return given[0] if one else given


class CompletionRequest(Asked):
    """`POST /v1/completions`."""

    refused = TEXT

    prompt: Annotated[str, BeforeValidator(_one_text, json_schema_input_type=str | list[str])] = (
        Field(description="the question, or a list of it alone; both models read it as a message")
    )

    def conversation(self) -> tuple[Message, ...]:
        """The prompt as the user's message."""
        if not self.prompt.strip():
            raise BadInput("prompt: empty; it must hold text", field="prompt")
        return (Message("user", self.prompt),)


def completion_routes(backend: Answers) -> APIRouter:
    """The route over `backend`."""
    routes = APIRouter(tags=["answers"], route_class=StrictRoute)

    @routes.post("/v1/completions", response_model=None, **answering(TextCompletion, TEXT_EXAMPLES))
    async def completions(body: CompletionRequest, request: Request) -> Any:
        """Answer a prompt: `text` is the winning chain."""
        body.refuse_unsupported()
        n = body.n or 1
        return await answered(
            backend,
            request,
            body,
            body.method(backend.settings),
            body.conversation(),
            kind="cmpl",
            whole=lambda outcome: completion(outcome, body.model, backend.calibration(), n=n),
            chunks=TextStream(body.model, n, body.events, body.include_usage),
        )

    return routes


def completion(
    outcome: Outcome, model: str, calibration: CalibrationState, *, n: int = 1
) -> dict[str, Any]:
    """`text_completion`: the best distinct answers' chains, and what it all cost."""
    choices = [
        _choice(text, reply.finish_reason(outcome), index)
        for index, text in enumerate(_texts(outcome, n))
    ]
    return _envelope(outcome.id, model, choices) | {
        "usage": reply.usage(outcome),
        "atts": reply.details(outcome, calibration),
    }


@dataclass
class TextStream:
    """The chunks of one run.

    Text once sent is never taken back, and which chain wins is known at the end: it comes then.
    With `every`, each event before that is a chunk without choices, the event under `atts`.
    """

    model: str
    n: int
    every: bool
    include_usage: bool
    run_id: str = ""
    """Known once the run has been found or begun, before its first event."""

    def event(self, event: Event) -> list[Chunk]:
        made = [self._chunk([_choice("", None)])] if isinstance(event, RunStarted) else []
        if self.every:
            made.append(self._chunk([]) | {"atts": as_json(event)})
        return made

    def end(self, outcome: Outcome, calibration: CalibrationState) -> list[Chunk]:
        finish = reply.finish_reason(outcome)
        made = [
            self._chunk([_choice(text, finish, index)])
            for index, text in enumerate(_texts(outcome, self.n))
        ]
        made[-1] |= {"atts": reply.details(outcome, calibration)}
        if self.include_usage:
            made.append(self._chunk([]) | {"usage": reply.usage(outcome)})
        return made

    def _chunk(self, choices: list[dict[str, Any]]) -> Chunk:
        usage = {"usage": None} if self.include_usage else {}
        return _envelope(self.run_id, self.model, choices) | usage


def _texts(outcome: Outcome, n: int) -> list[str]:
    """The chains of the best `n` distinct answers; without any, the most plausible chain."""
    answer = outcome.answer
    return [vote.text for vote in answer.votes[:n]] or [answer.text]


def _choice(text: str, finish: str | None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _envelope(run_id: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": run_id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
    }
