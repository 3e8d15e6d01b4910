"""Carries a router's runs to the archive, off every request's path, and back what is wanted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from services.contact import Contact
from services.runs.archive import Receipt, RunArchive, Upload
from services.runs.live import LiveRun

UPLOAD = 2_000
"""Events in one upload at most."""


class Carrier:
    """One router's exchange with the archive, again and again while it has runs.

    With each, new events go up, and what comes back names the runs that somebody cancelled at
    another router, or follows there. A lost archive delays nothing. Without `history`, nothing
    that a model wrote goes up. `kept` is called once the archive has all of a run.
    """

    def __init__(
        self,
        archive: RunArchive,
        router: str,
        contact: Contact,
        kept: Callable[[LiveRun], None],
        *,
        history: bool,
    ) -> None:
        self.contact = contact
        self._archive = archive
        self._router = router
        self._kept = kept
        self._history = history
        self._runs: dict[str, LiveRun] = {}
        self._there: dict[str, int] = {}
        """How many of a run's events the archive has."""
        self._new = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def add(self, run: LiveRun) -> None:
        """Carry it from now on: at once, so that other routers soon know of it."""
        if run.identity.id not in self._runs:
            self._runs[run.identity.id] = run
            self._there[run.identity.id] = 0
            self._new.set()

    def drop(self, run: LiveRun) -> None:
        """Carry it no further."""
        self._runs.pop(run.identity.id, None)
        self._there.pop(run.identity.id, None)

    def carries(self, run: LiveRun) -> bool:
        """Whether the archive does not have all of it."""
        return run.identity.id in self._runs

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Exchange until the context ends; then hand over what is left, within the timeout."""
        repeating = asyncio.create_task(self._repeat(), name="runs-carrier")
        try:
            yield
        finally:
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)
            await self.attempt(self.contact.timeout)

    async def _repeat(self) -> None:
        while True:
            if not self._runs:
                await self._new.wait()
            elif self.contact.failure is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.contact.pause()):
                        await self._new.wait()
            else:
                await asyncio.sleep(self.contact.pause())
            self._new.clear()
            await self.attempt()

    async def attempt(self, within: float | None = None) -> bool:
        """Whether an exchange succeeded, `within` so many seconds where that is given."""
        return await self.contact.attempt(self.exchange, within)

    async def exchange(self) -> None:
        """Hand over all that is new, and do what is wanted.

        A call that takes longer than the contact's timeout raises `TimeoutError`.
        """
        async with self._one_at_a_time:
            for uploads in self._batches():
                async with asyncio.timeout(self.contact.timeout):
                    receipt = await self._archive.upload(self._router, uploads)
                self.contact.succeeded()
                self._take_in(receipt)

    def _batches(self) -> Iterator[list[Upload]]:
        """Every run once at least, `UPLOAD` events together at most, until nothing is left."""
        waiting = deque(self._runs.values())
        while waiting:
            batch, room = [], UPLOAD
            while waiting and room:
                upload = self._upload(waiting[0], room)
                if upload is not None:
                    batch.append(upload)
                    room -= len(upload.events)
                if room:
                    waiting.popleft()
            if batch:
                yield batch

    def _upload(self, run: LiveRun, room: int) -> Upload | None:
        """What goes up of a run, if it is carried still."""
        run_id, ending = run.identity.id, run.ending
        if run_id not in self._runs:
            return None
        if not self._history:
            return Upload(run.identity, 0, (), ending and replace(ending, reply=None))
        there = self._there[run_id]
        events = tuple(run.events[there : there + room])
        whole = there + len(events) == len(run.events)
        return Upload(run.identity, there, events, ending if whole else None)

    def _take_in(self, receipt: Receipt) -> None:
        for run_id, there in receipt.events.items():
            run = self._runs.get(run_id)
            if run is None:
                continue
            self._there[run_id] = there
            run.followed_elsewhere = run_id in receipt.followed
            if run_id in receipt.ended:
                self.drop(run)
                self._kept(run)
            elif run_id in receipt.cancelled:
                run.cancel()
            elif not run.followed and not run.followed_elsewhere:
                run.abandon()
