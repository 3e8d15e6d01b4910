"""Where values wait for the backend: requests touch memory only, a task hands them on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.metrics.backend import Backend
from services.metrics.catalogue import DROPPED, Metric

log = logging.getLogger(__name__)

Series = tuple[str, tuple[str, ...]]

EVERY_SECONDS = 2.0
WAITING = 100_000
"""Observations that wait for the backend at most; what comes then is counted, not kept."""


class Board:
    """Sums, observations and gauges of this process since they were last handed on."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._metrics: dict[str, Metric] = {}
        self._sums: dict[Series, float] = {}
        self._observed: dict[Series, list[float]] = {}
        self._gauges: dict[Series, float] = {}
        self._waiting = 0
        self._lost = 0
        self._totals: dict[Series, float] = {}
        self.failing = False

    def count(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Add `by`; 0 only makes the series known, so that its first step is seen."""
        series = self._series(metric, labels)
        self._sums[series] = self._sums.get(series, 0.0) + by

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        if self._waiting == WAITING:
            self._lost += 1
            return
        self._waiting += 1
        self._observed.setdefault(self._series(metric, labels), []).append(value)

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        self._gauges[self._series(metric, labels)] = value

    def known(self, metric: Metric) -> list[tuple[str, ...]]:
        """The labels that a gauge has been set for."""
        return [labels for name, labels in self._gauges if name == metric.name]

    def total(self, metric: Metric, *labels: str, now: float) -> None:
        """Count what a total, which starts at 0, has grown by since it was last told here."""
        series = self._series(metric, labels)
        before = self._totals.get(series, 0.0)
        self._totals[series] = now
        self.count(metric, *labels, by=max(0.0, now - before))

    def _series(self, metric: Metric, labels: tuple[str, ...]) -> Series:
        self._metrics[metric.name] = metric
        return metric.name, labels

    def hand_on(self) -> None:
        """Give everything to the backend; what it does not take is kept for the next time."""
        if self._lost:
            self.count(DROPPED, by=self._lost)
            self._lost = 0
        backend, metrics = self._backend, self._metrics
        for name, labels in list(self._sums):
            backend.count(metrics[name], labels, self._sums[name, labels])
            del self._sums[name, labels]
        for name, labels in list(self._observed):
            values = self._observed[name, labels]
            backend.observe(metrics[name], labels, values)
            self._waiting -= len(values)
            del self._observed[name, labels]
        for (name, labels), value in self._gauges.items():
            backend.set(metrics[name], labels, value)

    def attempt(self, look: Callable[[], None]) -> None:
        """Look at what is now, then hand on; what fails of it costs nothing but the view."""
        failures = [
            f"metrics are not {what}: {type(error).__name__}: {error}"
            for what, act in (("looked at", look), ("handed on", self.hand_on))
            if (error := _failure(act)) is not None
        ]
        if not self.failing:
            for failure in failures:
                log.warning("%s", failure)
        self.failing = bool(failures)

    @asynccontextmanager
    async def running(
        self, look: Callable[[], None], every: float = EVERY_SECONDS
    ) -> AsyncIterator[None]:
        """Hand on `every` so many seconds until the context ends, and then once more."""
        repeating = asyncio.create_task(self.repeat(look, every), name="metrics")
        try:
            yield
        finally:
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)
            self.attempt(look)

    async def repeat(self, look: Callable[[], None], every: float = EVERY_SECONDS) -> None:
        while True:
            self.attempt(look)
            await asyncio.sleep(every)


def _failure(act: Callable[[], None]) -> Exception | None:
    try:
        act()
    except Exception as error:  # whatever a backend or a look may raise, requests go on
        return error
    return None
