"""What the stream benchmark hears of a stream whose events are known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from benchmarks.stream import as_table, listen, summary
from tests.services.conftest import backend, client


async def test_every_event_of_a_stream_is_timed() -> None:
    async with client(backend()) as http:
        heard = await listen(http, "What is 1 + 1?", seed=1)
    assert heard.first_byte > 0
    assert heard.arrivals == sorted(heard.arrivals)
    assert heard.lags[0] == 0.0
    assert len(heard.lags) > 10


def telling(*at: float) -> httpx.AsyncClient:
    """A server whose stream tells of events at these moments, a piece each."""

    async def pieces() -> AsyncIterator[bytes]:
        for moment in at:
            yield b'data: {"choices": [], "atts": {"event": "x", "at": %f}}\n\n' % moment

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=pieces())

    return httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://atts")


async def test_a_chunk_s_lag_is_what_it_took_longer_than_the_first() -> None:
    """Two events a second apart on the server arrive together: the later one was faster."""
    async with telling(1.0, 2.0) as http:
        heard = await listen(http, "?", seed=1)
    assert heard.lags[0] == 0.0
    assert -1.0 <= heard.lags[1] < -0.5


async def test_the_table_shows_every_measure() -> None:
    heard = []
    for _ in range(3):
        async with telling(1.0, 1.1, 1.2) as http:
            heard.append(await listen(http, "?", seed=1))
    result: dict[str, Any] = {
        "questions": 3,
        "seed": 1,
        "candidates": 4,
        "machine": "m",
        "capacity_per_second": 1.0,
        "load": 0.8,
        "idle": summary(heard),
        "loaded": summary(heard),
    }
    table = as_table(result)
    assert table.count("first byte after the request") == 2
    assert "80% load: chunk after its event" in table
