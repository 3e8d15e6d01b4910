"""The runs of one router: begun, joined, read and cancelled here, and through the archive."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from atts_core.errors import UnknownRun
from atts_core.events import as_json
from atts_core.randomness import fresh_seed
from atts_core.settings import Method
from atts_core.types import Message
from services.contact import Contact
from services.runs.archive import Identity, Page, RunArchive, reached
from services.runs.carrier import Carrier
from services.runs.keys import Keys, Shared
from services.runs.live import Emit, Finished, LiveRun, Source
from services.service import Outcome, Service, new_run_id
from services.settings import Settings

log = logging.getLogger(__name__)

RUNS_HERE, BYTES_HERE = 256, 64_000_000
"""What a router holds at most of runs that have ended and that the archive does not have."""
LEAVE_SECONDS = 0.5
"""How long a run goes on that nobody here waits for, until the archive says who does elsewhere."""
CANCEL_SECONDS = 5.0
"""How long a cancel waits for the end of a run at another router."""
POLL = 0.05
"""Pause between two looks for what is about to happen at another router."""
LONGEST_PAUSE = 5.0
"""Seconds between two exchanges that fail, at most."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a run, by which key, and what tells the request from others."""

    owner: str = ""
    key: str | None = None
    fingerprint: str = ""


class Runs:
    """Every run of this router that goes on, and of those that ended what the archive lacks.

    Without an archive, or while it is away, everything holds for this router only.
    """

    def __init__(
        self, service: Service, settings: Settings, archive: RunArchive | None = None
    ) -> None:
        self._service = service
        self._settings = settings.runs
        self._within = settings.store.timeout_seconds
        self._archive = archive
        self._router = uuid.uuid4().hex
        self._here: dict[str, LiveRun] = {}
        self._carrier = None if archive is None else self._carried_to(archive)
        self._keys = Keys(self._begin, self._here, self._shared())

    def _carried_to(self, archive: RunArchive) -> Carrier:
        contact = Contact(
            "store of runs",
            "runs are known to this router only",
            refresh=self._settings.refresh_seconds,
            longest=LONGEST_PAUSE,
            timeout=self._within,
        )
        return Carrier(archive, self._router, contact, self._kept, history=self._settings.history)

    def _shared(self) -> Shared | None:
        """Without history the other routers have nothing to answer a repeated request with."""
        if self._archive is None or self._carrier is None or not self._settings.history:
            return None
        pause = self._settings.refresh_seconds
        return Shared(self._archive, self._carrier, self._router, pause, self._within)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Share runs with the other routers until the context ends; then end all of them."""
        if self._carrier is None:
            try:
                yield
            finally:
                await self._end_all()
            return
        async with self._carrier.running():
            try:
                yield
            finally:
                await self._end_all()

    async def _end_all(self) -> None:
        everything = {*self._here.values(), *self._keys.runs()}
        going_on = [run for run in everything if run.ending is None]
        for run in going_on:
            run.shut_down()
        await asyncio.gather(*(run.over() for run in going_on))

    # ------------------------------------------------------------------------------- asking

    async def open(
        self,
        caller: Caller,
        model: str,
        method: Method,
        messages: tuple[Message, ...],
        shape: Callable[[Outcome], dict[str, Any]],
        kind: str = "chatcmpl",
    ) -> LiveRun:
        """The run that answers a request, new or, where its key stands for one, that one.

        `shape` makes the reply that is kept; `kind` begins a new run's id. Who opens a run must
        join it at once. Raises `KeyReused` where the key stands for another request, `Overloaded`
        where there is no room for another run.
        """
        if caller.key is None:
            self._service.check_room()  # before anything is made for it
        # A seed of its own at the latest here: a run can be told before it has begun.
        seed = fresh_seed() if method.seed is None else method.seed
        method = method.model_copy(update={"seed": seed})
        identity = Identity(
            new_run_id(kind),
            caller.owner,
            {"model": model, "seed": seed, "method": method.model_dump(mode="json")},
            time.time(),
            caller.key,
            caller.fingerprint,
        )

        async def source(emit: Emit) -> Finished:
            outcome = await self._service.answer(messages, method, run_id=identity.id, emit=emit)
            return Finished(outcome, shape(outcome))

        if caller.key is None:
            return self._begin(identity, source, claimed=False)
        return await self._keys.run(identity, source)

    def _begin(self, identity: Identity, source: Source, *, claimed: bool) -> LiveRun:
        run = LiveRun(
            identity,
            source,
            left=self._left,
            began=self._carry,
            ended=self._ended,
            claimed=claimed,
        )
        self._here[identity.id] = run
        if claimed:
            self._carry(run)
        return run

    def _carry(self, run: LiveRun) -> None:
        if self._carrier is not None:
            self._carrier.add(run)

    # ------------------------------------------------------------------- what becomes of runs

    async def _left(self, run: LiveRun) -> None:
        """Nobody here waits for the run: somebody at another router may."""
        if run.claimed and self._carrier is not None:
            await self._carrier.attempt(LEAVE_SECONDS)
            if run.followed or (run.followed_elsewhere and not self._carrier.contact.failure):
                return
        await self._keys.give_up(run)

    def _ended(self, run: LiveRun) -> None:
        assert run.ending is not None, "called at a run's end"
        if run.ending.released:
            self._keys.release(run)
        if not run.events and not run.claimed:
            self._forget(run)  # it was refused before it began
        self._bound()

    def _kept(self, run: LiveRun) -> None:
        """The archive has all of the run; what its key stands for may be known here only."""
        if run.identity.key is None or run.claimed:
            self._forget(run)

    def _forget(self, run: LiveRun) -> None:
        self._here.pop(run.identity.id, None)
        self._keys.release(run)
        if self._carrier is not None:
            self._carrier.drop(run)

    def _bound(self) -> None:
        """The oldest runs that have ended leave where there are too many."""
        ended = [run for run in self._here.values() if run.ending is not None]
        size = sum(run.size for run in ended)
        for place, run in enumerate(ended):
            if len(ended) - place <= RUNS_HERE and size <= BYTES_HERE:
                return
            size -= run.size
            if self._carrier is not None and self._carrier.carries(run):
                log.warning(
                    "the store is away for so long that the run %s is lost", run.identity.id
                )
            self._forget(run)

    # ---------------------------------------------------------------------- reading, cancelling

    async def read(self, run_id: str, owner: str, after: int, limit: int) -> Page:
        """At most `limit` events beyond the first `after`, and how the run stands.

        Raises `UnknownRun` where the owner has no such run, `StoreUnavailable` where it is not of
        this router and the archive does not answer.
        """
        run = self._mine(run_id, owner)
        if run is not None:
            return self._page(run, after, limit)
        archive = self._archive
        if archive is None:
            raise unknown(run_id)
        return await self._elsewhere(run_id, lambda: archive.read(run_id, owner, after, limit))

    async def cancel(self, run_id: str, owner: str) -> Page:
        """Cancel the run wherever it runs; how it stands, without events, when it has ended.

        It may still be running where its router does not answer. Raises as `read` does.
        """
        run = self._mine(run_id, owner)
        if run is not None:
            run.cancel()
            await run.over()
            return self._page(run, 0, 0)
        archive = self._archive
        if archive is None:
            raise unknown(run_id)
        page = await self._elsewhere(run_id, lambda: archive.cancel(run_id, owner))
        until = asyncio.get_running_loop().time() + CANCEL_SECONDS
        while page.ending is None and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(POLL)
            page = await self.read(run_id, owner, 0, 0)
        return page

    async def _elsewhere(self, run_id: str, call: Callable[[], Awaitable[Page | None]]) -> Page:
        """What the archive says of the run; asked for a while, as it may just have begun."""
        if _possible(run_id):
            page = await reached(call(), self._within)
            tries = 2 * self._settings.refresh_seconds / POLL
            while page is None and tries > 0:
                await asyncio.sleep(POLL)
                page = await reached(call(), self._within)
                tries -= 1
            if page is not None:
                return page
        raise unknown(run_id)

    def _mine(self, run_id: str, owner: str) -> LiveRun | None:
        run = self._here.get(run_id)
        return run if run is not None and run.identity.owner == owner else None

    def _page(self, run: LiveRun, after: int, limit: int) -> Page:
        history = self._settings.history
        there = run.events if history else []
        events = there[after : after + limit]
        ending = run.ending
        if ending is not None and not history:
            ending = replace(ending, reply=None)
        return Page(
            identity=run.identity,
            status="running" if ending is None else ending.status,
            events=[as_json(event) for event in events],
            next=after + len(events),
            more=after + len(events) < len(there),
            ending=ending,
        )


def _possible(run_id: str) -> bool:
    """Whether a run can have this id: the database need not see what a stranger made up."""
    return len(run_id) <= 64 and run_id.isascii() and run_id.isprintable()


def unknown(run_id: str) -> UnknownRun:
    return UnknownRun(
        f"id: no run {run_id[:80]!r} is known here; it never was, or it is too old (the server's "
        "runs.max_runs, runs.max_age_seconds, runs.max_bytes)",
        field="id",
    )
