"""Carries scores between a router's gate and the store, off every request's path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from atts_core.acceptance import Gate
from atts_core.calibration.keys import Batch
from services.contact import Contact
from services.settings import StoreSettings
from services.store.exchange import Cursor, Exchange

log = logging.getLogger(__name__)

Call = Callable[[Batch, str, Cursor | None], Awaitable[Exchange]]
"""(what is new here, this router's origin, how far it has read) → what is new there."""

UPLOAD = 500
"""Scores in one upload at most."""
SLICE = 250
"""Scores merged at once, about a millisecond; requests go on between two slices."""


class Courier:
    """One router's exchange with the store, again and again; a lost store delays nothing."""

    def __init__(self, gate: Gate, call: Call, settings: StoreSettings) -> None:
        self._gate = gate
        self._call = call
        self._settings = settings
        self._cursor: Cursor | None = None
        self._contact = Contact(
            "calibration store",
            "deciding with what is here",
            refresh=settings.refresh_seconds,
            longest=settings.backoff_seconds,
            timeout=settings.timeout_seconds,
        )
        self._database: str | None = None
        self._durable = False
        self._dropped = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Exchange until the context ends; at its start take what is kept, at its end hand over
        what is left, each within `timeout_seconds`."""
        await self._attempt(within=self._settings.timeout_seconds)
        repeating = asyncio.create_task(self._repeat())
        try:
            yield
        finally:
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)
            await self._attempt(within=self._settings.timeout_seconds)
            left = len(self._gate.pending().records)
            if left:
                log.warning("the router ends with scores that the store did not take (%s)", left)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._contact.pause())
            await self._attempt()

    async def _attempt(self, within: float | None = None) -> None:
        if not await self._contact.attempt(self.exchange, within):
            self._tell_losses()

    async def exchange(self) -> None:
        """Hand over what is new here and take in what is new there, until both sides are even.

        A call that takes longer than `timeout_seconds` raises `TimeoutError`.
        """
        gate = self._gate
        more = True
        while more:
            batch = gate.pending(UPLOAD)
            async with asyncio.timeout(self._settings.timeout_seconds):
                got = await self._call(batch, gate.origin, self._cursor)
            if got.forget:
                log.warning("the calibration was reset: all scores known here are forgotten")
                gate.reset()
            gate.committed(got.committed)
            await self._merge(got.batch)
            self._cursor = got.cursor
            self._contact.succeeded()
            self._database, self._durable = got.database, got.durable
            more = got.more or len(batch.records) == UPLOAD

    async def _merge(self, batch: Batch) -> None:
        for begin in range(0, len(batch.records), SLICE):
            self._gate.merge(Batch(batch.pair, batch.records[begin : begin + SLICE]))
            await asyncio.sleep(0)

    def _tell_losses(self) -> None:
        if self._gate.dropped > self._dropped:
            self._dropped = self._gate.dropped
            log.error(
                "the calibration store is away for so long that scores are lost to the other "
                "routers (%s so far, calibration.max_outbox)",
                self._dropped,
            )

    def state(self) -> dict[str, Any]:
        """For responses: the age of the last exchange (seconds), and why the newest one failed."""
        return {
            "snapshot_age_seconds": self._contact.age,
            "store_error": self._contact.failure,
        }

    def report(self) -> dict[str, Any]:
        """For the calibration endpoint: the same, and where scores are kept."""
        return {"url": self._database, "durable": self._durable, **self.state()}
