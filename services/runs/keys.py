"""Idempotency keys: which run a request that is sent again gets, here and at other routers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakValueDictionary

from atts_core.errors import KeyReused, StoreUnavailable
from services.runs.archive import Identity, RunArchive, reached
from services.runs.carrier import Carrier
from services.runs.following import following
from services.runs.live import LiveRun, Source

log = logging.getLogger(__name__)

CLAIM_SECONDS = 1.0
"""How long a request waits for the archive to say what its idempotency key stands for."""


class Begin(Protocol):
    """Begins a run of this router's own."""

    def __call__(self, identity: Identity, source: Source, *, claimed: bool) -> LiveRun: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """The way to the other routers; `pause` and `within` are seconds, as `following` has them."""

    archive: RunArchive
    carrier: Carrier
    router: str
    pause: float
    within: float


class Keys:
    """The runs that keys stand for; `here` are this router's own runs.

    Without `shared`, and while the archive is away, a key holds at this router only.
    """

    def __init__(self, begin: Begin, here: Mapping[str, LiveRun], shared: Shared | None) -> None:
        self._begin = begin
        self._here = here
        self._shared = shared
        self._runs: dict[tuple[str, str], LiveRun] = {}
        self._claiming: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def runs(self) -> Iterable[LiveRun]:
        return self._runs.values()

    async def run(self, identity: Identity, source: Source) -> LiveRun:
        """The run that the identity's key stands for; a new one where the key is free.

        Raises `KeyReused` where the key stands for another request.
        """
        place = _place(identity)
        one_at_a_time = self._claiming.setdefault(place, asyncio.Lock())
        async with one_at_a_time:
            run = self._runs.get(place)
            if run is None or run.abandoned:
                run = await self._claim(identity, source)
            if run.identity.fingerprint != identity.fingerprint:
                raise KeyReused(
                    f"Idempotency-Key: {identity.key!r} was sent before with another request; a "
                    "repeated request must have the same body, a new one a new key",
                    field="Idempotency-Key",
                )
            self._runs[place] = run
        return run

    def release(self, run: LiveRun) -> None:
        """The run's key, if it has one, stands for it no longer."""
        if self._runs.get(_place(run.identity)) is run:
            del self._runs[_place(run.identity)]

    async def give_up(self, run: LiveRun) -> None:
        """Nobody waits for the run any more: its key is free, and it ends."""
        self.release(run)
        run.abandon()
        await run.over()

    async def _claim(self, identity: Identity, source: Source) -> LiveRun:
        shared = self._shared
        if shared is None:
            return self._begin(identity, source, claimed=False)
        before = [r for r in self._here.values() if _place(r.identity) == _place(identity)]
        if before:
            # They have released the key, but the archive may not know that yet.
            await asyncio.gather(*(run.over() for run in before))
            await shared.carrier.attempt(CLAIM_SECONDS)
        if shared.carrier.contact.failure is not None:
            return self._begin(identity, source, claimed=False)
        try:
            claim = await reached(shared.archive.claim(shared.router, identity), CLAIM_SECONDS)
        except StoreUnavailable as error:
            log.warning("an idempotency key holds at this router only: %s", error)
            return self._begin(identity, source, claimed=False)
        except asyncio.CancelledError:
            # The client has gone, but its claim may have arrived: take it back.
            self._begin(identity, source, claimed=True).withdraw()
            raise
        if claim.run_id == identity.id:
            return self._begin(identity, source, claimed=True)
        theirs = replace(identity, id=claim.run_id, fingerprint=claim.fingerprint)
        return LiveRun(theirs, _followed(theirs, shared), left=self.give_up, ended=self.release)


def _followed(identity: Identity, shared: Shared) -> Source:
    return following(
        shared.archive,
        identity.id,
        identity.owner,
        shared.router,
        pause=shared.pause,
        within=shared.within,
    )


def _place(identity: Identity) -> tuple[str, str]:
    return identity.owner, identity.key or ""
