"""The runs of all routers, kept in the store's database: a `RunArchive`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from sqlalchemy import Connection

from services.runs.archive import Claim, Identity, Page, Receipt, Upload
from services.settings import RunSettings
from services.store import runs
from services.store.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

PRUNE_EVERY = 20
"""Runs that have ended after which the oldest are removed."""
PAGE = 1_000
"""Events that a follower is given at once."""


class RunStore:
    """Runs in a database that others may use too; its work is done by `threads`.

    Raises `AttsError` where the database fails.
    """

    def __init__(self, database: Database, threads: Executor, settings: RunSettings) -> None:
        self._database = database
        self._threads = threads
        self._settings = settings
        self._ended = PRUNE_EVERY  # the bounds may be new: pruned with the first upload

    async def upload(self, router: str, uploads: list[Upload]) -> Receipt:
        def act(connection: Connection, now: float) -> Receipt:
            taken = {u.identity.id: runs.take(connection, router, u, now) for u in uploads}
            open_ = [run_id for run_id, (_, whole) in taken.items() if not whole]
            cancelled, followed = runs.wanted(connection, open_, now)
            return Receipt(
                events={run_id: there for run_id, (there, _) in taken.items()},
                ended=frozenset(taken) - frozenset(open_),
                cancelled=cancelled,
                followed=followed,
            )

        receipt = await self._done(act)
        self._ended += len(receipt.ended)
        if self._ended >= PRUNE_EVERY:
            self._ended = 0
            await self._done(self._prune)
        return receipt

    async def claim(self, router: str, identity: Identity) -> Claim:
        def act(connection: Connection, now: float) -> Claim:
            age = self._settings.max_age_seconds
            claim = runs.claim(connection, router, identity, age, now)
            if claim.run_id != identity.id and claim.fingerprint == identity.fingerprint:
                # In the same act: the run is not given up between the claim and the first read.
                runs.follow(connection, claim.run_id, router, now)
            return claim

        return await self._done(act)

    async def read(self, run_id: str, owner: str, after: int, limit: int) -> Page | None:
        return await self._done(lambda c, now: self._read(c, run_id, owner, after, limit, now))

    async def follow(self, run_id: str, owner: str, router: str, after: int) -> Page | None:
        def act(connection: Connection, now: float) -> Page | None:
            page = self._read(connection, run_id, owner, after, PAGE, now)
            if page is not None and page.ending is None:
                runs.follow(connection, run_id, router, now)
            return page

        return await self._done(act)

    async def leave(self, run_id: str, router: str) -> None:
        await self._done(lambda c, now: runs.leave(c, run_id, router))

    async def cancel(self, run_id: str, owner: str) -> Page | None:
        def act(connection: Connection, now: float) -> Page | None:
            page = self._read(connection, run_id, owner, 0, 0, now)
            if page is not None and page.ending is None:
                runs.cancel(connection, run_id)
            return page

        return await self._done(act)

    def _read(
        self, connection: Connection, run_id: str, owner: str, after: int, limit: int, now: float
    ) -> Page | None:
        page = runs.read(connection, run_id, owner, after, limit, now)
        if page is None or page.identity.created < now - self._settings.max_age_seconds:
            return None
        return page

    def _prune(self, connection: Connection, now: float) -> None:
        bounds = self._settings
        gone = runs.prune(
            connection, bounds.max_runs, bounds.max_bytes, bounds.max_age_seconds, now
        )
        log.debug("runs removed from the history: %s", gone)

    async def _done(self, act: Callable[[Connection, float], T]) -> T:
        def work() -> T:
            with self._database.transaction() as connection:
                return act(connection, time.time())

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
