"""One model's chains: self-consistency and best-of-n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scripts import chain

from atts_core import events, scaling
from atts_core.engine import Generate, Line, Pending, Rate, ScriptedEngine, encode_characters
from atts_core.errors import EngineError
from atts_core.types import EngineCost, Scored, Segment
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]


def by_candidate(**lines: Any) -> Callable[[str, Generate], Any]:
    """Candidate 0 writes `_0`, and so on."""
    return lambda seen, request: lines["_" + request.chain.rpartition("/")[2]]


async def test_the_beta_rule_stops_what_is_still_open(scripted: Scripted) -> None:
    """4 to 0 beats a rival with probability 0.97, 3 to 0 with 0.94."""
    slow = Line(r"\boxed{3}", ticks=10**9)
    quick = Line(r"\boxed{2}")
    recorder = scripted(
        by_candidate(
            _0=quick,
            _1=quick,
            _2=quick,
            _3=quick,
            **dict.fromkeys([f"_{i}" for i in range(4, 12)], slow),
        )
    )
    run = recorder.run(candidates=12, policy="self-consistency", consensus=False)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == ("2", "confidence")
    endings = [e.ending for e in recorder.of(events.CandidateFinished)]
    assert sorted(endings) == ["answered"] * 4 + ["cancelled"] * 8
    assert recorder.target.generated == []
    assert recorder.draft.running == []


async def test_a_tie_goes_to_what_the_draft_itself_finds_likelier(scripted: Scripted) -> None:
    write = by_candidate(
        _0=Line(r"\boxed{2}", confidence=3.0), _1=Line(r"\boxed{3}", confidence=0.5, ticks=9)
    )
    run = scripted(write).run(candidates=2, policy="self-consistency")
    assert (await scaling.answer(run, QUESTION)).answer == "3"


async def test_without_log_probabilities_a_tie_goes_to_the_first(scripted: Scripted) -> None:
    write = by_candidate(
        _0=Line(r"\boxed{2}", confidence=3.0), _1=Line(r"\boxed{3}", confidence=0.5, ticks=9)
    )
    recorder = scripted(write)
    recorder.draft = ScriptedEngine(write, name="draft", top_logprobs=0)
    run = recorder.run(candidates=2, policy="self-consistency")
    assert (await scaling.answer(run, QUESTION)).answer == "2"
    assert [request.top_logprobs for request, _ in recorder.draft.generated] == [0, 0]


async def test_the_chain_that_the_target_finds_likeliest_wins_against_the_most(
    scripted: Scripted,
) -> None:
    recorder = scripted(
        by_candidate(_0=r"\boxed{2}", _1=r"\boxed{2}", _2=r"\boxed{3}"),
        rates=lambda text: 0.2 if "3" in text else 1.5,
    )
    answer = await scaling.answer(recorder.run(candidates=3, policy="best-of-n"), QUESTION)
    assert answer.answer == "3"
    assert [e.nll for e in recorder.of(events.ChainScored)] == pytest.approx([1.5, 1.5, 0.2])
    assert recorder.target.generated == []


async def test_the_target_reads_a_chain_once_and_whole(scripted: Scripted) -> None:
    read: list[str] = []

    def rates(text: str) -> float:
        read.append(text)
        return 1.0

    recorder = scripted(
        lambda seen, request: "one " if len(chain(seen)) < 8 else r"\boxed{2}", rates=rates
    )
    await scaling.answer(recorder.run(policy="best-of-n"), QUESTION)
    assert read == [r"one one \boxed{2}"]
    (scored,) = recorder.of(events.ChainScored)
    assert scored.tokens == len(read[0])


async def test_a_chain_without_text_is_not_scored(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: Line("", finish="eos"))
    answer = await scaling.answer(recorder.run(policy="best-of-n"), QUESTION)
    assert answer.answer is None
    assert recorder.of(events.ChainScored) == []


async def test_a_chain_ends_where_the_target_could_not_read_it(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "a" * 40)
    recorder.target = ScriptedEngine(lambda seen, request: "", name="target", max_len=120)
    await scaling.answer(recorder.run(policy="best-of-n"), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    (scored,) = recorder.of(events.ChainScored)
    assert finished.ending == "context"
    assert scored.tokens == finished.tokens < 120


async def test_a_chain_whose_score_fails_fails_alone(scripted: Scripted) -> None:
    def rates(text: str) -> float:
        if "3" in text:
            raise EngineError("lost")
        return 1.0

    recorder = scripted(by_candidate(_0=r"\boxed{2}", _1=r"\boxed{3}"), rates=rates)
    answer = await scaling.answer(recorder.run(candidates=2, policy="best-of-n"), QUESTION)
    assert answer.answer == "2"
    assert [e.ending for e in recorder.of(events.CandidateFinished)].count("failed") == 1


async def test_a_chain_that_says_nothing_to_the_target_has_no_score(scripted: Scripted) -> None:
    class Deaf(ScriptedEngine):
        async def _score(self, request: Rate, segment: Pending[Segment]) -> Scored:
            await segment
            nothing = encode_characters("")
            return Scored(nothing, np.empty(0, np.float32), nothing, EngineCost())

    recorder = scripted(by_candidate(_0=r"\boxed{2}"))
    recorder.target = Deaf(lambda seen, request: "", name="target")
    answer = await scaling.answer(recorder.run(policy="best-of-n"), QUESTION)
    assert answer.answer == "2"
    assert recorder.of(events.ChainScored) == []


async def test_a_chain_ends_where_what_room_is_left_holds_no_character(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "")
    await scaling.answer(recorder.run(policy="draft-only"), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert finished.ending == "context"
