"""Carries scores between a router's gate and the store, off every request's path."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from atts_core.acceptance import Gate
from atts_core.calibration.keys import Batch
from atts_core.errors import AttsError
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
        self._last: float | None = None
        self._failure: str | None = None
        self._failures = 0
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
            await asyncio.sleep(self._pause())
            await self._attempt()

    def _pause(self) -> float:
        """Seconds until the next exchange; after failures longer and longer, and never in step
        with the other routers."""
        refresh = self._settings.refresh_seconds
        if not self._failures:
            return refresh
        longest = max(refresh, self._settings.backoff_seconds)
        return min(longest, refresh * 2.0 ** min(self._failures, 20)) * random.uniform(0.5, 1)

    async def _attempt(self, within: float | None = None) -> None:
        try:
            async with asyncio.timeout(within):
                await self.exchange()
        except TimeoutError:
            self._failed(f"no answer within {self._settings.timeout_seconds:g} s")
        except AttsError as error:
            self._failed(str(error))
        except Exception as error:  # the store is another process: anything may come back
            self._failed(f"{type(error).__name__}: {error}")

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
            self._succeeded(got)
            more = got.more or len(batch.records) == UPLOAD

    async def _merge(self, batch: Batch) -> None:
        for begin in range(0, len(batch.records), SLICE):
            self._gate.merge(Batch(batch.pair, batch.records[begin : begin + SLICE]))
            await asyncio.sleep(0)

    def _succeeded(self, got: Exchange) -> None:
        if self._failure is not None:
            log.warning("the calibration store is back")
        self._failure, self._failures = None, 0
        self._last = monotonic()
        self._database, self._durable = got.database, got.durable

    def _failed(self, reason: str) -> None:
        if self._failure is None:
            log.warning(
                "no exchange with the calibration store (%s); deciding with what is here", reason
            )
        self._failure = reason
        self._failures += 1
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
            "snapshot_age_seconds": None if self._last is None else monotonic() - self._last,
            "store_error": self._failure,
        }

    def report(self) -> dict[str, Any]:
        """For the calibration endpoint: the same, and where scores are kept."""
        return {"url": self._database, "durable": self._durable, **self.state()}
