"""Carries scores between a router's gate and the store, off every request's path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from atts_core.acceptance import Gate
from atts_core.calibration.keys import Record
from services.calibration_store import Exchange
from services.settings import StoreSettings

log = logging.getLogger(__name__)

Call = Callable[[str, str, list[Record], int], Awaitable[Exchange]]


class Courier:
    """One router's exchange with the store, again and again; a lost store delays nothing."""

    def __init__(self, gate: Gate, call: Call, settings: StoreSettings) -> None:
        self._gate = gate
        self._call = call
        self._settings = settings
        self._cursor = 0
        self._last: float | None = None
        self._failure: str | None = None

    async def run(self) -> None:
        """Until cancelled; the owner of this task is the router's lifespan."""
        while True:
            try:
                await self.exchange()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # the store is another process: anything may come back
                self._failed(error)
            await asyncio.sleep(self._settings.refresh_seconds)

    async def exchange(self) -> None:
        """Hand over what is new here, take in what is new there."""
        mine = self._gate.pending()
        async with asyncio.timeout(self._settings.timeout_seconds):
            got = await self._call(str(self._gate.pair), self._gate.origin, mine, self._cursor)
        self._gate.committed(got.committed)
        self._gate.merge(got.records)
        self._cursor = got.cursor
        self._last = monotonic()
        if self._failure is not None:
            log.warning("the calibration store is back")
            self._failure = None

    def _failed(self, error: Exception) -> None:
        if self._failure is None:
            log.warning(
                "no exchange with the calibration store (%r); deciding with what is here", error
            )
        self._failure = f"{type(error).__name__}: {error}"

    def state(self) -> dict[str, Any]:
        """For responses: the age of the last exchange (seconds), and why the newest one failed."""
        return {
            "snapshot_age_seconds": None if self._last is None else monotonic() - self._last,
            "store_error": self._failure,
        }
