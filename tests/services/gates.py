"""Routers without HTTP and models, for tests: a gate and its courier over real Serve handles."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from time import perf_counter, thread_time
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from atts_core.acceptance import Gate
from atts_core.calibration.keys import PairKey
from atts_core.calibration.settings import CalibrationSettings
from atts_core.types import Score
from services.calibration_store import CalibrationStore
from services.courier import Courier
from services.remote_store import remote_store
from services.settings import StoreSettings

PAIR = PairKey("draft", "target", "template", "mean-nll")
WINDOW = 1_000_000
CANDIDATES = 16


class Store(CalibrationStore):
    """The store as it is served, which also tells its process."""

    def process(self) -> int:
        return os.getpid()


class RouterSide:
    """What a router does with its gate: many candidates decide, one courier carries."""

    def __init__(self, origin: str, settings: StoreSettings, store: DeploymentHandle) -> None:
        self.gate = Gate(PAIR, CalibrationSettings(window=WINDOW), origin=origin)
        self.courier = Courier(self.gate, remote_store(store), settings)
        self._life = AsyncExitStack()
        self._made = 0

    async def start(self) -> int:
        """Begin to exchange; the scores that are there before the first decision."""
        await self._life.enter_async_context(self.courier.running())
        return self.size()

    async def stop(self) -> int:
        """The orderly end; how many scores were left behind."""
        await self._life.aclose()
        return len(self.gate.pending().records)

    async def decide(self, count: int, pause: float) -> list[tuple[float, float, float]]:
        """`count` decisions by concurrent candidates that each wait `pause` seconds in between.

        For each, in seconds: the processor's time it took (what other processes take of the
        machine is not in it); how much later than asked its candidate was woken; and how much of
        its wait this thread worked, for other candidates and the courier. Lateness beyond that is
        the machine's.
        """
        took: list[tuple[float, float, float]] = []
        draw = random.Random(count)

        async def candidate(index: int, share: int) -> None:
            for turn in range(share):
                asked, worked = perf_counter(), thread_time()
                await asyncio.sleep(pause)
                late, busy = perf_counter() - asked - pause, thread_time() - worked
                score = Score(nll_sum=draw.expovariate(1), tokens=1)
                began = thread_time()
                self.gate.decide(
                    score, question=f"{index}", turn=turn % 15, coin=draw.random(), rate=0.4
                )
                took.append((thread_time() - began, late, busy))

        shares = [count // CANDIDATES + (i < count % CANDIDATES) for i in range(CANDIDATES)]
        async with asyncio.TaskGroup() as group:
            for index, share in enumerate(shares):
                group.create_task(candidate(index, share))
        self._made += count
        return took

    async def state(self) -> dict[str, Any]:
        # Serve runs what is not async in a thread of its own, and a gate belongs to one thread.
        pending = self.gate.pending(WINDOW).records
        made = self.gate._sequence
        return {
            **self.courier.state(),
            "made": made,
            "pending": len(pending),
            "committed": pending[0].sequence - 1 if pending else made,
            "seen": dict(self.gate.seen),
            "size": self.size(),
        }

    def size(self) -> int:
        """Scores in the bank of everything."""
        found: int = self.gate.state()["banks"][0]["size"]
        return found

    async def even(self, other: str, count: int) -> dict[str, Any]:
        """Wait until all scores made here are committed, and `count` of the other's are here."""
        async with asyncio.timeout(240):
            while self.gate.pending(1).records or self.gate.seen.get(other, 0) < count:
                await asyncio.sleep(0.05)
        return await self.state()

    async def grown(self, size: int) -> int:
        """Wait until the bank of everything holds `size` scores."""
        async with asyncio.timeout(240):
            while self.size() < size:
                await asyncio.sleep(0.05)
        return self.size()


class Root:
    """Serve wants one deployment in front."""

    def __init__(self, *handles: DeploymentHandle) -> None:
        pass


def application(url: str, origins: str) -> Application:
    """A router a letter of `origins`, and the store between them."""
    settings = StoreSettings(url=url, refresh_seconds=0.1, timeout_seconds=5, backoff_seconds=0.5)
    light = {"ray_actor_options": {"num_cpus": 0.01}, "max_ongoing_requests": 100}
    store = serve.deployment(Store, name="CalibrationStore", health_check_period_s=1, **light).bind(
        settings, WINDOW
    )
    routers = [
        serve.deployment(RouterSide, name=origin, **light).bind(origin, settings, store)
        for origin in origins
    ]
    return serve.deployment(Root, name="Root", **light).bind(*routers, store)
