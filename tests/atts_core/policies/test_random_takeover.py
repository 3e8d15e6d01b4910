"""Takeovers by coin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atts_core import events, scaling
from atts_core.candidate import Candidate
from atts_core.chain import Chain, Reading
from atts_core.engine import encode_characters
from atts_core.policies.random_takeover import by_coin
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]


@pytest.mark.parametrize("rate", [0.2, 0.7])
async def test_the_rate_holds_and_scores_decide_nothing(scripted: Scripted, rate: float) -> None:
    async def taken_over(rates: Callable[[str], float]) -> list[tuple[int, int]]:
        recorder = scripted(lambda seen, request: "a", lambda seen, request: "b", rates)
        run = recorder.run(
            candidates=20, turns=50, policy="random-takeover", takeover_rate=rate, consensus=False
        )
        await scaling.answer(run, QUESTION)
        decided = recorder.of(events.Decided)
        assert len(decided) == len(recorder.of(events.SegmentScored)) == 1000
        assert all(e.decision.taken_over == (e.decision.coin > 1 - rate) for e in decided)
        return sorted((e.candidate, e.turn) for e in decided if e.decision.taken_over)

    chosen = await taken_over(lambda text: 0.1)
    assert abs(len(chosen) / 1000 - rate) < 3 * (rate * (1 - rate) / 1000) ** 0.5
    assert chosen == await taken_over(lambda text: 9.0)


async def test_a_segment_without_a_score_is_not_taken_over(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "a")
    run = recorder.run(policy="random-takeover", takeover_rate=1 - 1e-9)
    nothing = encode_characters("")
    candidate = Candidate(run, 0, Chain(Reading(nothing), Reading(nothing), True))
    assert await by_coin(candidate, None) is False
    assert recorder.of(events.Decided) == []
