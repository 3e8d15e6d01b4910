"""Clients that are slow, deaf or gone: they hold no place in the service, and no memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from atts_core.engine import Generate, Line, ScriptedEngine
from services.local import LocalBackend
from tests.services.conftest import ANSWER, backend

STEP = "One more step of a chain that goes on and on, whoever reads it or not.\n\n"


def body(**more: Any) -> bytes:
    asked: dict[str, Any] = {
        "model": "atts",
        "messages": [{"role": "user", "content": "What is 1 + 1?"}],
        "atts": {"candidates": 2, "seed": 1, "events": True},
    }
    return json.dumps(asked | more).encode()


def request(content: bytes, *, announced: int | None = None) -> bytes:
    length = len(content) if announced is None else announced
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: atts\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return head.encode() + content


@asynccontextmanager
async def connected(base: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    at = urlsplit(base)
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=1)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(base: str, **more: Any) -> httpx.Response:
    json_body = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=base, headers=json_body) as http:
        return await http.post("/v1/chat/completions", content=body(**more))


async def until_nothing_runs(atts: LocalBackend) -> None:
    """Returns once no run and no engine request is left; the test's own limit ends it else."""
    engines = [atts.service.draft, atts.service.target]
    while atts.service.running or any(
        isinstance(engine, ScriptedEngine) and engine.running for engine in engines
    ):
        await asyncio.sleep(0.005)


def stepwise(seen: str, request: Generate) -> Line:
    """A few lines, then the answer; each takes its time."""
    written = seen.partition("<assistant>")[2].count("\n\n")
    return Line(STEP if written < 3 else ANSWER, ticks=3)


async def test_bodies_that_trickle_in_take_no_place(listening: Any) -> None:
    atts = backend(limits={"max_running": 1})
    async with listening(atts) as base:
        whole = request(body())
        async with AsyncExitStack() as slow:
            for _ in range(20):
                _, writer = await slow.enter_async_context(connected(base))
                writer.write(whole[: len(whole) // 2])
                await writer.drain()
            assert (await ask(base)).status_code == 200
            assert not atts.service.running


async def test_a_body_that_never_comes_whole_starts_nothing(listening: Any) -> None:
    atts = backend()
    async with listening(atts) as base:
        async with connected(base) as (_, writer):
            writer.write(request(body()[:-1], announced=10_000))
            await writer.drain()
        async with httpx.AsyncClient(base_url=base) as http:
            assert (await http.get("/health")).status_code == 200
    assert not atts.service.draft.generated  # type: ignore[attr-defined]


async def test_a_body_that_is_not_there_in_time_is_waited_for_no_longer(listening: Any) -> None:
    atts = backend(limits={"max_body_seconds": 0.2})
    async with listening(atts) as base, connected(base) as (reader, writer):
        writer.write(request(body()[:-1], announced=10_000))
        await writer.drain()
        head, _, said = (await reader.read(-1)).partition(b"\r\n\r\n")  # to the connection's end
    error = json.loads(said)["error"]
    assert head.startswith(b"HTTP/1.1 408 ")
    assert set(error) == {"message", "type", "param", "code"}
    assert "limits.max_body_seconds" in error["message"]


async def test_a_run_may_take_longer_than_its_body(listening: Any) -> None:
    def slow(seen: str, request: Generate) -> Line:
        return Line(ANSWER, ticks=20_000)

    async with listening(backend(slow, limits={"max_body_seconds": 0.05})) as base:
        assert (await ask(base)).status_code == 200


async def test_a_client_that_never_reads_frees_its_place_when_its_run_is_over(
    listening: Any,
) -> None:
    """Two hundred turns of eight chains are far more than what sockets hold."""

    def endless(seen: str, request: Generate) -> Line:
        return Line(STEP * 4)

    atts = backend(endless, endless, limits={"max_running": 1, "max_turns": 200})
    async with listening(atts) as base, connected(base) as (_, writer):
        long = {"candidates": 8, "turns": 200, "draft_tokens": 4000, "events": True}
        writer.write(request(body(stream=True, atts=long)))
        await writer.drain()
        while not atts.service.running:
            await asyncio.sleep(0.005)
        await until_nothing_runs(atts)
        assert (await ask(base)).status_code == 200


async def _length_of_a_stream(base: str) -> int:
    whole = await ask(base, stream=True)
    assert whole.content.endswith(b"data: [DONE]\n\n")
    return len(whole.content)


async def _abort_at(base: str, count: int) -> None:
    """Read `count` bytes of the response, head included, and reset the connection."""
    async with connected(base) as (reader, writer):
        writer.write(request(body(stream=True)))
        await writer.drain()
        with suppress(asyncio.IncompleteReadError):
            await reader.readexactly(count)


async def _abort_at_every(step: int, listening: Any) -> None:
    atts = backend(stepwise, stepwise)
    async with listening(atts) as base:
        for count in range(0, await _length_of_a_stream(base), step):
            await _abort_at(base, count)
        await until_nothing_runs(atts)
        before = {task for task in asyncio.all_tasks() if not task.done()}
        assert not [task for task in before if task.get_name().startswith("chatcmpl")]
        assert (await ask(base)).status_code == 200


async def test_a_stream_that_is_aborted_leaves_nothing(listening: Any) -> None:
    await _abort_at_every(211, listening)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_stream_that_is_aborted_at_any_byte_leaves_nothing(listening: Any) -> None:
    await _abort_at_every(1, listening)
