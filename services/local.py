"""Everything in one process, without Ray: for the terminal, for tests, and to see how it works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from atts_core.acceptance import Gate
from atts_core.engine import Engine
from services.engines import loading
from services.engines.settings import Kind
from services.mathematics import mathematics
from services.pair import pair_of
from services.recorder import recording
from services.runs.archive import RunArchive
from services.runs.registry import Runs
from services.service import Service
from services.settings import Settings


@asynccontextmanager
async def here(settings: Kind) -> AsyncIterator[Engine]:
    """The engine of `settings`, loaded in this process."""
    engine = loading.load(settings)
    try:
        yield engine
    finally:
        engine.close()


@asynccontextmanager
async def local_backend(
    settings: Settings, engine: Callable[[Kind], AbstractAsyncContextManager[Engine]] = here
) -> AsyncIterator[LocalBackend]:
    """Both engines, each as `engine` opens it, and a gate that no other router shares."""
    async with AsyncExitStack() as stack:
        draft, target = await _opened(stack, engine(settings.draft), engine(settings.target))
        gate = Gate(pair_of(draft, target), settings.calibration)
        recorder = stack.enter_context(recording(settings.record, gate.origin))
        compare = await stack.enter_async_context(mathematics(settings.comparison))
        yield LocalBackend(
            settings, Service(draft, target, gate, settings.limits, recorder, compare)
        )


async def _opened(
    stack: AsyncExitStack, *engines: AbstractAsyncContextManager[Engine]
) -> list[Engine]:
    """All of them, opened side by side; where one fails, the others are closed again."""
    try:
        async with asyncio.TaskGroup() as opening:
            opened = [opening.create_task(stack.enter_async_context(one)) for one in engines]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [one.result() for one in opened]


class LocalBackend:
    """What the HTTP routes need, from one process; runs are shared through `archive`, if any."""

    def __init__(
        self, settings: Settings, service: Service, archive: RunArchive | None = None
    ) -> None:
        self.settings = settings
        self.service = service
        self.runs = Runs(service, settings, archive)
        self.watchers = service.watchers

    def calibration(self) -> dict[str, Any]:
        return {}

    def store(self) -> dict[str, Any]:
        """There is none: one process shares with nobody."""
        return {"url": None, "durable": False, "snapshot_age_seconds": None, "store_error": None}

    async def ready(self) -> dict[str, Any]:
        return {"ready": True, "running": len(self.service.running)}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with self.runs.running():
            yield
