"""Everything in one process, without Ray: for the terminal, for tests, and to see how it works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from atts_core.acceptance import Gate
from services.engines import loading
from services.mathematics import mathematics
from services.pair import pair_of
from services.recorder import recording
from services.runs.archive import RunArchive
from services.runs.registry import Runs
from services.service import Service
from services.settings import Settings


@asynccontextmanager
async def local_backend(settings: Settings) -> AsyncIterator[LocalBackend]:
    """Both engines loaded here, and a gate that no other router shares."""
    draft, target = loading.load(settings.draft), loading.load(settings.target)
    try:
        gate = Gate(pair_of(draft, target), settings.calibration)
        with recording(settings.record, gate.origin) as recorder:
            async with mathematics(settings.comparison) as compare:
                yield LocalBackend(
                    settings, Service(draft, target, gate, settings.limits, recorder, compare)
                )
    finally:
        draft.close()
        target.close()


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
