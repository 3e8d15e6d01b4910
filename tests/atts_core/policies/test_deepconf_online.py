"""DeepConf's published rules, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scripts import chain

from atts_core import events, scaling
from atts_core.engine import Generate, Line, ScriptedEngine
from atts_core.errors import EngineError, PolicyLacks
from atts_core.policies.deepconf_online import TOP, lowest_group
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]
W = 9
"""As long as a boxed digit."""


def number(request: Generate) -> int:
    return int(request.chain.rpartition("/")[2])


def run_of(recorder: Recorder, candidates: int, **method: Any) -> Any:
    return recorder.run(
        candidates=candidates, policy="deepconf-online", draft_tokens=W, turns=50, **method
    )


def of_one_piece(answers: str, confidences: list[float]) -> Callable[..., Line]:
    """Candidate i answers `answers[i]`, with `confidences[i]`, at once."""
    return lambda seen, request: Line(
        rf"\boxed{{{answers[number(request)]}}}", confidence=confidences[number(request)]
    )


def test_the_lowest_group_is_the_lowest_mean_of_a_window() -> None:
    values = np.array([5, 1, 3, 2, 9, 9], np.float32)
    assert lowest_group(values, 2) == 2.0  # (1 + 3) / 2
    assert lowest_group(values, 3) == 2.0  # (1 + 3 + 2) / 3
    assert lowest_group(values, 1) == 1.0
    assert lowest_group(values, 6) == lowest_group(values, 99) == pytest.approx(29 / 6)
    assert lowest_group(values[:0], 3) == math.inf


@pytest.mark.parametrize(
    ("how", "winner"), [({}, "1"), ({"aggregation": "majority", "consensus": False}, "2")]
)
async def test_votes_weigh_as_much_as_their_chains_are_confident(
    scripted: Scripted, how: dict[str, Any], winner: str
) -> None:
    write = of_one_piece("221224", [2.0, 2.0, 9.0, 2.0, 2.0, 2.0])
    answer = await scaling.answer(run_of(scripted(write), 6, **how), QUESTION)
    assert {vote.answer: vote.weight for vote in answer.votes} == {"1": 9.0, "2": 8.0, "4": 2.0}
    assert answer.answer == winner


async def test_the_bar_is_the_10th_percentile_of_the_warm_up_chains(scripted: Scripted) -> None:
    """Of 1, 2, 3, 4: 1.3. The first does not vote, nor does a later one of 1.29."""
    write = of_one_piece("12345678", [1.0, 2.0, 3.0, 4.0, 1.29, 1.31, 5.0, 0.5])
    answer = await scaling.answer(run_of(scripted(write), 8), QUESTION)
    assert {vote.candidates for vote in answer.votes} == {(1,), (2,), (3,), (5,), (6,)}


async def test_a_later_chain_is_stopped_when_a_group_falls_below_the_bar(
    scripted: Scripted,
) -> None:
    def write(seen: str, request: Generate) -> Line:
        doubts = number(request) == 3 and len(chain(seen)) == W
        text = r"\boxed{2}" if len(chain(seen)) == 4 * W else "a" * W
        return Line(text, confidence=0.5 if doubts else 2.0)

    recorder = scripted(write)
    answer = await scaling.answer(run_of(recorder, 4), QUESTION)
    finished = {e.candidate: (e.ending, e.tokens) for e in recorder.of(events.CandidateFinished)}
    assert finished == {**dict.fromkeys((0, 1, 2), ("answered", 4 * W + 9)), 3: ("stopped", 2 * W)}
    assert (answer.votes[0].candidates, answer.agreement) == ((0, 1, 2), 1.0)


async def test_a_warm_up_chain_is_never_stopped(scripted: Scripted) -> None:
    def write(seen: str, request: Generate) -> Line:
        text = r"\boxed{2}" if len(chain(seen)) == 4 * W else "a" * W
        return Line(text, confidence=0.1 if number(request) == 0 else 2.0)

    recorder = scripted(write)
    await scaling.answer(run_of(recorder, 4), QUESTION)
    endings = [e.ending for e in recorder.of(events.CandidateFinished)]
    assert endings == ["answered"] * 4


async def test_less_than_a_window_is_no_reason_to_stop(scripted: Scripted) -> None:
    def write(seen: str, request: Generate) -> Line:
        if number(request) == 1 and not chain(seen):
            return Line("a", confidence=0.1)
        return Line(
            "a" * 8 + r"\boxed{2}" if number(request) == 0 else r"\boxed{2}", confidence=2.0
        )

    recorder = scripted(write)
    await scaling.answer(run_of(recorder, 2), QUESTION)
    assert "stopped" not in [e.ending for e in recorder.of(events.CandidateFinished)]


async def test_later_chains_begin_when_the_last_warm_up_chain_has_ended(
    scripted: Scripted,
) -> None:
    def write(seen: str, request: Generate) -> Line:
        return Line(r"\boxed{2}", ticks=50 if number(request) == 0 else 1, confidence=2.0)

    recorder = scripted(write)
    await scaling.answer(run_of(recorder, 4), QUESTION)
    assert [number(request) for request, _ in recorder.draft.generated] == [1, 0, 2, 3]
    assert {request.top_logprobs for request, _ in recorder.draft.generated} == {TOP}


@pytest.mark.parametrize(("candidates", "warming"), [(1, 1), (2, 1), (9, 4), (32, 16), (40, 16)])
async def test_16_chains_warm_up_or_half_of_them(
    scripted: Scripted, candidates: int, warming: int
) -> None:
    def write(seen: str, request: Generate) -> Line:
        return Line(r"\boxed{2}", ticks=5, confidence=2.0)

    recorder = scripted(write)
    await scaling.answer(run_of(recorder, candidates), QUESTION)
    written = [e.candidate for e in recorder.of(events.SegmentWritten)]
    asked_at = [number(request) for request, _ in recorder.draft.generated]
    assert written[:warming] == asked_at[:warming] == list(range(warming))
    bar = recorder.of(events.SegmentWritten)[warming - 1].at
    later = recorder.of(events.SegmentWritten)[warming:]
    assert all(e.at - e.seconds >= bar for e in later)


async def test_without_warm_up_chains_there_is_no_bar(scripted: Scripted) -> None:
    def write(seen: str, request: Generate) -> Line:
        if number(request) < 2:
            raise EngineError("lost")
        return Line(r"\boxed{2}", confidence=0.1)

    answer = await scaling.answer(run_of(scripted(write), 4), QUESTION)
    assert answer.votes[0].candidates == (2, 3)


async def test_a_chain_without_tokens_has_no_vote_and_sets_no_bar(scripted: Scripted) -> None:
    def write(seen: str, request: Generate) -> Line:
        if number(request) == 0:
            return Line("", finish="eos")
        return Line(r"\boxed{2}", confidence=1.0)

    answer = await scaling.answer(run_of(scripted(write), 4), QUESTION)
    assert (answer.votes[0].candidates, answer.agreement) == ((1, 2, 3), 1.0)


async def test_an_open_chain_could_weigh_anything_so_no_lead_is_decided_before(
    scripted: Scripted,
) -> None:
    write = of_one_piece("11112", [2.0, 2.0, 2.0, 2.0, 99.0])
    recorder = scripted(write)
    answer = await scaling.answer(run_of(recorder, 5, consensus=True), QUESTION)
    assert (answer.answer, answer.stopped) == ("2", "all")


@pytest.mark.parametrize(("can", "told"), [(0, "none"), (5, "5")])
async def test_a_draft_that_does_not_tell_enough_is_refused(
    scripted: Scripted, can: int, told: str
) -> None:
    recorder = scripted(of_one_piece("1", [1.0]))
    recorder.draft = ScriptedEngine(of_one_piece("1", [1.0]), name="small", top_logprobs=can)
    wanted = rf"deepconf-online cannot be served here.*20.*small \(scripted\), gives {told}"
    with pytest.raises(PolicyLacks, match=wanted):
        await scaling.answer(run_of(recorder, 1), QUESTION)
    assert recorder.events == recorder.draft.generated == []
