"""The calibration store: every router's scores, merged, each exactly once, kept in a database."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from atts_core.calibration.keys import Batch, PairKey
from atts_core.errors import AttsError, BadInput
from services.settings import StoreSettings
from services.store import scores
from services.store.database import MEMORY, Database, open_database
from services.store.exchange import Cursor, Exchange
from services.store.merging import exchange

log = logging.getLogger(__name__)

PRUNE_EVERY = 1_000
"""New scores of a pair after which its old ones are removed."""


class CalibrationStore:
    """Keeps the newest `keep` scores of each pair and hands them to every router but their own.

    What an exchange reports as committed is in the database's log on the disk: it survives the
    death of this process and of the machine. Database work is done by threads, so the event loop
    is never blocked. Raises `BadInput` where the database cannot be used and is `required`.
    """

    def __init__(self, settings: StoreSettings, keep: int) -> None:
        self.database = opened(settings)
        self._keep = keep
        # SQLite has one writer at a time: a second thread could only wait for it.
        threads = 4 if self.database.engine.dialect.name == "postgresql" else 1
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="calibration-store")
        self._unpruned: dict[PairKey, int] = {}

    async def exchange(self, batch: Batch, origin: str, cursor: Cursor | None) -> Exchange:
        """Take in a router's new scores and give it those of others; see `Exchange`.

        Repeating a call does no harm. Raises `AttsError` where the database fails.
        """
        loop = asyncio.get_running_loop()
        got = await loop.run_in_executor(self.threads, self._exchange, batch, origin, cursor)
        self._schedule_pruning(batch.pair, len(batch.records))
        return got

    def _exchange(self, batch: Batch, origin: str, cursor: Cursor | None) -> Exchange:
        with self.database.transaction() as connection:
            got = exchange(connection, self.database.id, batch, origin, cursor, self._keep)
        return replace(got, database=self.database.shown, durable=self.database.durable)

    def _schedule_pruning(self, pair: PairKey, new: int) -> None:
        """Behind the exchange, not in it; the first time at once, as `keep` may be new."""
        unpruned = self._unpruned.get(pair, PRUNE_EVERY) + new
        self._unpruned[pair] = unpruned
        if unpruned >= PRUNE_EVERY:
            self._unpruned[pair] = 0
            self.threads.submit(self._prune, pair).add_done_callback(_complain)

    def _prune(self, pair: PairKey) -> None:
        with self.database.transaction() as connection:
            scores.prune(connection, pair, self._keep)

    def close(self) -> None:
        """Finish what is under way and release the database."""
        self.threads.shutdown()
        self.database.close()


def opened(settings: StoreSettings) -> Database:
    """The database of the settings, or, where it is not `required`, memory and a loud warning."""
    try:
        return open_database(settings.url)
    except BadInput as error:
        if settings.required:
            raise
        log.error(
            "CALIBRATION SCORES ARE KEPT IN MEMORY ONLY and are lost when the store stops: %s",
            error.message,
        )
        return open_database(MEMORY)


def _complain(pruning: Future[None]) -> None:
    error = pruning.exception()
    if isinstance(error, AttsError):
        log.warning("old calibration scores could not be removed: %s", error)
    elif error is not None:
        log.error("old calibration scores could not be removed", exc_info=error)
