"""A run that another router runs, or has run: its events come from the archive."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from atts_core.errors import Overloaded, RunFailed, StoreUnavailable
from atts_core.events import AnswerReady, Event, from_json
from atts_core.settings import Method
from atts_core.usage import Usage
from services.http_errors import Relayed
from services.runs.archive import Page, RunArchive, reached
from services.runs.live import Emit, Finished, Source, cancelled
from services.service import Outcome


def following(
    archive: RunArchive, run_id: str, owner: str, router: str, *, pause: float, within: float
) -> Source:
    """A source of the run's events: read again after `pause` seconds until it has ended.

    A read that takes longer than `within` seconds fails.
    """

    async def source(emit: Emit) -> Finished:
        events: list[Event] = []
        try:
            while True:
                call = archive.follow(run_id, owner, router, len(events))
                page = await reached(call, within)
                if page is None and not events:
                    raise Overloaded(f"the run {run_id} found no room at its router")
                if page is None:
                    raise RunFailed(f"the run {run_id} has left the history")
                for event in map(from_json, page.events):
                    events.append(event)
                    emit(event)
                if page.ending is not None and not page.more:
                    return _finished(page, events)
                if not page.more:
                    await asyncio.sleep(pause)
        finally:
            # Where this fails, the archive takes us for gone after a while.
            with suppress(StoreUnavailable):
                await reached(archive.leave(run_id, router), within)

    return source


def _finished(page: Page, events: list[Event]) -> Finished:
    """The end as the run's own clients got it."""
    run_id, ending = page.identity.id, page.ending
    assert ending is not None, "the run has ended"
    if ending.error is not None:
        by_id = ending.error[1]["error"]["code"] == "run_cancelled"
        raise cancelled(run_id) if by_id else Relayed(*ending.error)
    answers = [event for event in events if isinstance(event, AnswerReady)]
    if ending.reply is None or not answers:
        raise RunFailed(f"the run {run_id} ended without an answer, as its clients had left")
    usage = Usage()
    for event in events:
        usage.add(event)
    question = page.identity.question
    outcome = Outcome(
        run_id,
        Method.model_validate(question["method"]),
        question["seed"],
        answers[-1].answer,
        usage,
        answers[-1].at,
    )
    return Finished(outcome, ending.reply)
