"""HTTP applications over scripted engines, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from atts_core.acceptance import Gate
from atts_core.engine import ScriptedEngine
from atts_core.settings import validated
from services.http_app import create_app
from services.local import LocalBackend
from services.pair import pair_of
from services.runs.archive import RunArchive
from services.service import Service
from services.settings import Settings
from tests.services.postgres import postgres_server

MODELS = {"draft": {"model": "scripted"}, "target": {"model": "scripted"}}
ANSWER = r"1 + 1 = 2" + "\n\n" + r"The result is \boxed{2}."


def backend(
    draft: Callable[..., Any] = lambda seen, request: ANSWER,
    target: Callable[..., Any] = lambda seen, request: ANSWER,
    rates: Callable[[str], float] = lambda text: 1.0,
    *,
    archive: RunArchive | None = None,
    **settings: Any,
) -> LocalBackend:
    """A service over scripted engines; `settings` are fields of `Settings`."""
    engines = (ScriptedEngine(draft, name="draft"), ScriptedEngine(target, rates, name="target"))
    wanted = validated(Settings, MODELS | settings)
    gate = Gate(pair_of(*engines), wanted.calibration)
    return LocalBackend(wanted, Service(*engines, gate, wanted.limits), archive)


def client(backend: LocalBackend) -> httpx.AsyncClient:
    """Requests go straight into the application, without a socket."""
    transport = httpx.ASGITransport(create_app(backend))
    return httpx.AsyncClient(transport=transport, base_url="http://atts")


@asynccontextmanager
async def _listening(backend: LocalBackend) -> AsyncIterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(backend), log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([sock]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
def listening() -> Callable[[LocalBackend], AbstractAsyncContextManager[str]]:
    """The application behind a real socket: a client can hang up there."""
    return _listening


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL database that the tests of one run share."""
    with postgres_server() as server:
        yield server.url
