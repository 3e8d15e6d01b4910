"""A run as server-sent events, which ends with its reader, whoever ends first."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from atts_core.errors import AttsError
from atts_core.events import Event
from services.http_errors import INTERNAL, described
from services.service import Outcome

log = logging.getLogger(__name__)

Chunk = dict[str, Any]


Answering = Callable[[Callable[[Event], None]], Awaitable[Outcome]]
"""A run that has not begun: it is handed where its events go, and has an outcome."""


GATHER_SECONDS = 0.015
"""What happens within so long is sent together."""
KEEP_ALIVE_SECONDS = 10.0
"""A stream that is silent for so long says that it lives: proxies close what seems dead."""


async def follow(
    answer: Answering, *, within: float = 0.0, silence: float | None = None
) -> AsyncGenerator[list[Event | Outcome], None]:
    """A run's events as they happen, at last its outcome; the run ends with the iterator.

    Events come together that happen `within` seconds of the first of them; only the run's first
    does not wait for others. An empty list stands for `silence` seconds without any.
    """
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def run() -> Outcome:
        try:
            return await answer(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    running = asyncio.create_task(run())
    pause = 0.0
    try:
        while True:
            happened: list[Event | None] = []
            try:
                async with asyncio.timeout(silence):
                    happened.append(await queue.get())
            except TimeoutError:
                yield []
                continue
            await asyncio.sleep(pause)
            pause = within
            while not queue.empty():
                happened.append(queue.get_nowait())
            together: list[Event | Outcome] = [one for one in happened if one is not None]
            if together:
                yield together
            if None in happened:
                yield [await running]
                return
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
    run = follow(answer, within=GATHER_SECONDS, silence=KEEP_ALIVE_SECONDS)
    async with aclosing(run):
        async for together in run:
            if not together:
                yield b": keep-alive\n\n"
            chunks = [
                chunk
                for one in together
                for chunk in (end(one) if isinstance(one, Outcome) else event(one))
            ]
            if chunks:
                yield b"".join(map(_sse, chunks))
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
    except Exception:  # the status is sent: nobody above could tell the client any more
        log.exception("a stream failed")
        yield _sse(INTERNAL)


def _sse(body: Chunk) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()
