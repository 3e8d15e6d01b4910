"""A run as server-sent events, which ends with its reader, whoever ends first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from atts_core.errors import AttsError
from atts_core.events import Event
from services.http_errors import described
from services.service import Outcome

Chunk = dict[str, Any]


Answering = Callable[[Callable[[Event], None]], Awaitable[Outcome]]
"""A run that has not begun: it is handed where its events go, and has an outcome."""


async def follow(answer: Answering) -> AsyncGenerator[Event | Outcome, None]:
    """A run's events as they happen, then its outcome; the run ends with the iterator."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def run() -> Outcome:
        try:
            return await answer(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (happened := await queue.get()) is not None:
            yield happened
        yield await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def stream(
    answer: Answering,
    *,
    event: Callable[[Event], list[Chunk]],
    end: Callable[[Outcome], list[Chunk]],
) -> AsyncIterator[bytes]:
    """The chunks of one run's events as they happen, then those of its outcome, then `[DONE]`."""
    async with aclosing(follow(answer)) as run:
        async for happened in run:
            chunks = end(happened) if isinstance(happened, Outcome) else event(happened)
            for chunk in chunks:
                yield _sse(chunk)
    yield b"data: [DONE]\n\n"


async def first_of(chunks: AsyncIterator[bytes]) -> bytes:
    """The first chunk; whoever is cancelled while waiting for it ends the run."""
    return await anext(chunks)


async def resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream from its first chunk on; an error in the middle is its last chunk.

    A client takes a stream that is merely cut for a whole one, so a failure must be said.
    """
    yield first
    try:
        async for chunk in rest:
            yield chunk
    except AttsError as error:
        yield _sse(described(error)[1])


def _sse(body: Chunk) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()
