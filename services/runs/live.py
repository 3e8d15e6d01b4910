"""A run as one router sees it: its events so far, the clients that follow it, its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

from atts_core.errors import AttsError, Overloaded, RunCancelled
from atts_core.events import Event
from services.http_errors import INTERNAL, Relayed, described
from services.runs.archive import Ending, Identity
from services.service import Outcome
from services.wire import error_body

Emit: TypeAlias = Callable[[Event], None]

EVENT_BYTES = 500
"""What an event takes beside its text, roughly."""


class Finished(NamedTuple):
    """An outcome, and the body it is answered with."""

    outcome: Outcome
    reply: dict[str, Any]


Source: TypeAlias = Callable[[Emit], Awaitable[Finished]]
"""Where a run's events and its end come from: the service, or another router."""


class LiveRun:
    """Begins with the first client that joins; ends, at the latest, when the last one leaves.

    `left` is awaited when the last client has left a run that goes on, and decides whether to
    give it up. `began` is called with the run's first event, `ended` when the run has ended.
    """

    def __init__(
        self,
        identity: Identity,
        source: Source,
        *,
        left: Callable[[LiveRun], Awaitable[None]],
        began: Callable[[LiveRun], None] = lambda run: None,
        ended: Callable[[LiveRun], None],
        claimed: bool = False,
    ) -> None:
        self.identity = identity
        self.claimed = claimed
        """Its idempotency key stands for it at all routers."""
        self.events: list[Event] = []
        self.size = 0
        """Bytes that the events take, roughly."""
        self.ending: Ending | None = None
        self.abandoned = False
        """Nobody waits for it: it ends, and nobody may join it any more."""
        self.followed_elsewhere = False
        """A client at another router waits for it."""
        self._source = source
        self._left = left
        self._began = began
        self._ended = ended
        self._followers: list[Emit] = []
        self._task: asyncio.Task[Outcome] | None = None
        self._cancelled = False
        self._stopped = False

    @property
    def followed(self) -> bool:
        """Whether a client at this router waits for it."""
        return bool(self._followers)

    async def join(self, emit: Emit = lambda event: None) -> Outcome:
        """All events so far and those to come go to `emit`; the outcome when it is there.

        Raises what the run fails with; `RunCancelled` where it was cancelled by its id. Whoever
        is cancelled here leaves the run.
        """
        for event in self.events:
            emit(event)
        self._followers.append(emit)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.identity.id)
        try:
            return await asyncio.shield(self._task)
        finally:
            self._followers.remove(emit)
            if not self._followers and not self._task.done():
                await self._left(self)

    def cancel(self) -> None:
        """End the run for all that follow it."""
        self._cancelled = True
        self._stop()

    def abandon(self) -> None:
        """End the run because nobody waits for it."""
        self.abandoned = True
        self._stop()

    def shut_down(self) -> None:
        """End the run because its router ends; whoever waits for it is told so."""
        self._stopped = True
        self.abandon()

    def withdraw(self) -> None:
        """End the run before it has begun; nobody has joined it."""
        self.abandoned = True
        self._end(Ending("cancelled", time.time(), released=True, kept=False))

    async def over(self) -> None:
        """Returns when nothing of the run runs any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _stop(self) -> None:
        # Once only: a second cancel would reach into the clean-up of the first.
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    async def _run(self) -> Outcome:
        try:
            finished = await self._source(self._happened)
        except asyncio.CancelledError:
            run_id = self.identity.id
            if self._cancelled:
                error: AttsError = cancelled(run_id)
                self._end(Ending("cancelled", time.time(), error=described(error)[:2]))
                raise error from None
            if self._stopped:
                error = server_stopped(run_id)
                self._end(self._ended_by(error))
                raise error from None
            self._end(self._ended_by(client_left(run_id)))
            raise
        except BaseException as error:
            self._end(
                Ending(
                    "failed",
                    time.time(),
                    error=_shown(error),
                    released=True,
                    kept=bool(self.events) or not isinstance(error, Overloaded),
                )
            )
            raise
        self._end(Ending("finished", time.time(), reply=finished.reply))
        return finished.outcome

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        self.size += EVENT_BYTES + len(getattr(event, "text", ""))
        if len(self.events) == 1:
            self._began(self)
        for emit in self._followers:
            emit(event)

    def _ended_by(self, error: Relayed) -> Ending:
        """Nobody decided against the run: the same request may begin it anew."""
        return Ending("cancelled", time.time(), error=(error.status, error.body), released=True)

    def _end(self, ending: Ending) -> None:
        self.ending = ending
        self._ended(self)


def cancelled(run_id: str) -> RunCancelled:
    return RunCancelled(f"the run {run_id} was cancelled by its id")


def client_left(run_id: str) -> Relayed:
    said = f"the run {run_id} ended without an answer: nobody waited for it any more"
    return Relayed(503, error_body(said, "server_error", code="client_left"))


def server_stopped(run_id: str) -> Relayed:
    said = f"the run {run_id} ended without an answer: its router was stopped"
    return Relayed(503, error_body(said, "server_error", code="server_stopped"))


def _shown(error: BaseException) -> tuple[int, dict[str, Any]]:
    if isinstance(error, AttsError):
        return described(error)[:2]
    return 500, INTERNAL
