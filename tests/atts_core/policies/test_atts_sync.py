"""The barrier: who is taken over, and that no way out of it leaves others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from scripts import chain

from atts_core import events, scaling
from atts_core.candidate import Candidate
from atts_core.chain import Chain, Reading
from atts_core.engine import Generate, Line, encode_characters
from atts_core.errors import EngineError
from atts_core.policies.atts_sync import Meeting
from atts_core.types import Score
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]


def candidates(recorder: Recorder, count: int, **method: Any) -> tuple[Meeting, list[Candidate]]:
    run = recorder.run(candidates=count, policy="atts-sync", **method)
    nothing = encode_characters("")
    made = [
        Candidate(run, index, Chain(Reading(nothing), Reading(nothing), True))
        for index in range(count)
    ]
    return Meeting(run), made


def nll(value: float) -> Score:
    return Score(value, 1)


async def verdicts(meeting: Meeting, scores: dict[Candidate, Score | None]) -> list[bool]:
    meeting_all = (meeting.judge(candidate, score) for candidate, score in scores.items())
    async with asyncio.timeout(5):
        return list(await asyncio.gather(*meeting_all))


@pytest.mark.parametrize(
    ("count", "rate", "worst"), [(5, 0.4, 2), (4, 0.4, 2), (1, 0.05, 1), (10, 0.7, 7), (3, 0.99, 3)]
)
async def test_the_worst_by_score_are_taken_over_and_their_number_is_rounded_up(
    scripted: Scripted, count: int, rate: float, worst: int
) -> None:
    recorder = scripted(lambda seen, request: "")
    meeting, all_ = candidates(recorder, count, takeover_rate=rate)
    scores = {candidate: nll((7 * candidate.index) % count) for candidate in all_}
    taken_over = await verdicts(meeting, dict(scores))
    expected = sorted(range(count), key=lambda i: scores[all_[i]].nll)[count - worst :]
    assert [i for i, verdict in enumerate(taken_over) if verdict] == sorted(expected)


async def test_decisions_tell_the_ranking(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "")
    meeting, all_ = candidates(recorder, 4, takeover_rate=0.5)
    await verdicts(meeting, dict(zip(all_, map(nll, (4.0, 1.0, 2.0, 2.0)), strict=True)))
    told = {e.candidate: e.decision for e in recorder.of(events.Decided)}
    assert [told[i].p_smoothed for i in range(4)] == [1.0, 0.25, 0.5, 0.75]
    assert [told[i].p_value for i in range(4)] == [1.0, 0.25, 0.75, 0.75]
    assert all(d.taken_over == (d.p_smoothed > d.threshold) for d in told.values())
    assert {(d.bank_size, d.threshold) for d in told.values()} == {(3, 0.5)}


async def test_a_segment_without_a_score_is_waited_for_and_never_taken_over(
    scripted: Scripted,
) -> None:
    recorder = scripted(lambda seen, request: "")
    meeting, (one, other) = candidates(recorder, 2, takeover_rate=0.9)
    assert await verdicts(meeting, {one: None, other: nll(0.1)}) == [False, True]
    assert len(recorder.of(events.Decided)) == 1


async def test_nobody_goes_on_before_the_last_has_come(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> Line:
        slow = request.chain.endswith("/2")
        return Line("a" if len(chain(seen)) < 6 else r"\boxed{2}", ticks=60 if slow else 1)

    recorder = scripted(draft, lambda seen, request: "b")
    run = recorder.run(candidates=3, turns=20, policy="atts-sync", consensus=False)
    await scaling.answer(run, QUESTION)
    turns = [e.turn for e in recorder.of(events.Decided)]
    assert turns == sorted(turns)
    assert set(turns) > {0, 1}


async def test_who_has_ended_is_not_waited_for(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> Line:
        if request.chain.endswith("/0"):
            return Line(r"\boxed{2}")
        if request.chain.endswith("/1") and chain(seen):
            return Line("", finish="eos")
        if request.chain.endswith("/2") and chain(seen):
            raise EngineError("lost")
        return Line("a" if len(chain(seen)) < 9 else r"\boxed{3}")

    recorder = scripted(draft, lambda seen, request: "b", lambda text: 0.1 if "2" in text else 1)
    run = recorder.run(
        candidates=4, turns=20, policy="atts-sync", consensus=False, takeover_rate=0.1
    )
    async with asyncio.timeout(5):
        await scaling.answer(run, QUESTION)
    endings = {e.candidate: e.ending for e in recorder.of(events.CandidateFinished)}
    assert endings == {0: "answered", 1: "eos", 2: "failed", 3: "turns"}


async def test_who_is_cancelled_while_it_waits_is_not_waited_for(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "")
    meeting, (one, two, three) = candidates(recorder, 3, takeover_rate=0.5)

    async def member(candidate: Candidate) -> bool:
        try:
            return await meeting.judge(candidate, nll(candidate.index))
        finally:
            meeting.leave(candidate)

    first, second = asyncio.create_task(member(one)), asyncio.create_task(member(two))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    async with asyncio.timeout(5):
        assert await member(three) is True
        assert await second is False
    assert first.cancelled()


async def test_who_is_cancelled_just_as_the_last_comes_is_not_waited_for(
    scripted: Scripted,
) -> None:
    recorder = scripted(lambda seen, request: "")
    meeting, (one, other) = candidates(recorder, 2, takeover_rate=0.5)
    waiting = asyncio.create_task(meeting.judge(one, nll(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(5):
        assert await meeting.judge(other, nll(2)) is True
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_who_leaves_before_it_ever_came_is_not_waited_for(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "")
    meeting, (one, other) = candidates(recorder, 2, takeover_rate=0.5)
    waiting = asyncio.create_task(meeting.judge(one, nll(1)))
    await asyncio.sleep(0)
    meeting.leave(other)
    meeting.leave(other)
    async with asyncio.timeout(5):
        assert await waiting is True
