"""The command line's view of a run: the same event objects from a server and from this process."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import httpx

from atts_core.answers import split_reasoning
from atts_core.errors import AttsError, BadInput, Overloaded
from atts_core.events import Event, as_json
from atts_core.settings import validated
from services import reply
from services.http_app import Backend
from services.service import Outcome
from services.streaming import follow
from services.wire import ChatRequest

KEY = "ATTS_API_KEY"
"""The environment variable that holds the key for a server which wants one."""


class ServerLost(AttsError):
    """The server cannot be reached, or went away in the middle of an answer."""


def authorization() -> dict[str, str]:
    """The header that shows the key, where the environment holds one."""
    key = os.environ.get(KEY)
    return {"Authorization": f"Bearer {key}"} if key else {}


async def reachable(server: str) -> bool:
    """Whether one of our servers answers there within a second."""
    try:
        async with httpx.AsyncClient(timeout=1) as client:
            response = await client.get(f"{server}/health")
    except httpx.HTTPError:
        return False
    return response.status_code == 200


async def remote_run(server: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """The run's events, then `{"event": "Completed", "completion": …}`, from a running server."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    asked["atts"] = {**body.get("atts", {}), "events": True}
    completed: dict[str, Any] = {}
    try:
        async with (
            httpx.AsyncClient(
                timeout=httpx.Timeout(5, read=None), headers=authorization()
            ) as client,
            client.stream("POST", f"{server}/v1/chat/completions", json=asked) as response,
        ):
            if response.status_code != 200:
                raise _refused(response, await response.aread())
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    raise AttsError(chunk["error"]["message"])
                event = chunk.get("atts", {})
                if event.get("event") == "AnswerReady":
                    completed["message"] = _message(event["answer"])
                # A chunk with choices is for readers: it may hold a chain that loses the lead.
                if "event" in event and not chunk["choices"]:
                    yield event
                elif "event" not in event:
                    completed |= {k: v for k, v in chunk.items() if k in ("id", "usage", "atts")}
    except httpx.HTTPError as error:
        raise ServerLost(f"{server}: {type(error).__name__}: {error}") from None
    yield {"event": "Completed", "completion": completed}


def _message(answer: dict[str, Any]) -> dict[str, str]:
    reasoning, statement = split_reasoning(answer["text"], answer["handed_over"])
    return {"content": statement, "reasoning_content": reasoning}


async def local_run(backend: Backend, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """The same, from engines in this process."""
    request = validated(ChatRequest, body)
    method = request.method(backend.settings)
    messages = request.conversation()

    async def answer(emit: Callable[[Event], None]) -> Outcome:
        return await backend.service.answer(messages, method, emit=emit)

    async with aclosing(follow(answer)) as run:
        async for happened in (one async for together in run for one in together):
            if not isinstance(happened, Outcome):
                yield as_json(happened)
                continue
            whole = reply.completion(happened, request.model, backend.calibration())
            message = whole["choices"][0]["message"]
            kept = {k: whole[k] for k in ("id", "usage", "atts")}
            yield {"event": "Completed", "completion": kept | {"message": message}}


def _refused(response: httpx.Response, body: bytes) -> AttsError:
    status = response.status_code
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return AttsError(f"the server answered with status {status}")
    message = error["message"]
    if status == 429:
        return Overloaded(message, retry_after=_seconds(response.headers.get("Retry-After", "")))
    return BadInput(message, field=error.get("param")) if status < 429 else AttsError(message)


def _seconds(retry_after: str) -> float:
    """Of a `Retry-After` header; one second where it says none, or a date."""
    return float(retry_after) if retry_after.isdecimal() else 1.0
