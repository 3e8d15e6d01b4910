"""Many candidates at once: consensus, cancelling, seeds."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from atts_core import events, scaling
from atts_core.acceptance import Gate
from atts_core.calibration.settings import CalibrationSettings
from atts_core.engine import Generate, Line, ScriptedEngine
from atts_core.errors import DeadlinePassed, EngineError
from atts_core.types import Ids, Message
from tests.conftest import PAIR, QUESTION, Recorder

Scripted = Callable[..., Recorder]


def endless(seen: str, request: Generate) -> Line:
    return Line("hm ", ticks=50)


def endless_takeover(seen: str, request: Generate) -> Line:
    return Line("hm ", ticks=10**9)


async def test_consensus_stops_what_can_no_longer_change_the_answer(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> Line:
        slow = request.chain.endswith(("/3", "/4"))
        return endless(seen, request) if slow else Line(r"\boxed{2}")

    recorder = scripted(draft)
    answer = await scaling.answer(recorder.run(candidates=5, takeover_rate=1e-6), QUESTION)
    assert (answer.answer, answer.agreement, answer.stopped) == ("2", 1.0, "consensus")
    endings = [e.ending for e in recorder.of(events.CandidateFinished)]
    assert sorted(endings) == ["answered"] * 3 + ["cancelled"] * 2
    assert recorder.draft.running == recorder.target.running == []
    assert recorder.draft.aborted == 2


async def test_chains_that_are_not_needed_never_start(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: r"\boxed{2}")
    run = recorder.run(candidates=8, start="needed", takeover_rate=1e-6)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == ("2", "consensus")
    assert [e.candidate for e in recorder.of(events.CandidateStarted)] == [0, 1, 2, 3, 4]
    assert [e.ending for e in recorder.of(events.CandidateFinished)] == ["answered"] * 5


async def test_where_chains_disagree_or_fail_others_start(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> str:
        if request.chain.endswith("/1"):
            raise EngineError("lost")
        return r"\boxed{3}" if request.chain.endswith("/0") else r"\boxed{2}"

    recorder = scripted(draft)
    run = recorder.run(candidates=8, start="needed", takeover_rate=1e-6)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == ("2", "consensus")
    # Of six that count, four must agree: with the two others these are the first six.
    assert len(recorder.of(events.CandidateStarted)) == 6


async def test_chains_that_wait_to_start_end_with_the_deadline(scripted: Scripted) -> None:
    recorder = scripted(endless)
    run = recorder.run(
        candidates=8, start="needed", turns=10**6, deadline_ms=50, takeover_rate=1e-6
    )
    answer = await scaling.answer(run, QUESTION)
    assert (answer.stopped, len(recorder.of(events.CandidateStarted))) == ("deadline", 5)
    assert recorder.draft.running == recorder.target.running == []


async def test_candidates_that_wait_for_each_other_start_together(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: r"\boxed{2}")
    run = recorder.run(candidates=8, policy="atts-sync", start="needed", takeover_rate=1e-6)
    await scaling.answer(run, QUESTION)
    assert len(recorder.of(events.CandidateStarted)) == 8


async def test_without_consensus_every_chain_runs_to_its_end(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: r"\boxed{2}")
    await scaling.answer(recorder.run(candidates=5, consensus=False, takeover_rate=1e-6), QUESTION)
    endings = [e.ending for e in recorder.of(events.CandidateFinished)]
    assert endings == ["answered"] * 5


async def test_enough_answers_stop_the_rest(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> Line:
        first = request.chain.endswith(("/0", "/1"))
        return Line(r"\boxed{2}") if first else endless(seen, request)

    recorder = scripted(draft)
    run = recorder.run(candidates=6, consensus=False, stop_after=2, takeover_rate=1e-6)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == ("2", "count")
    assert recorder.draft.running == recorder.target.running == []
    assert recorder.draft.aborted == 4


async def test_at_the_deadline_the_chains_that_ended_answer(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> Line:
        return Line(r"\boxed{2}") if request.chain.endswith("/0") else endless(seen, request)

    recorder = scripted(draft)
    run = recorder.run(
        candidates=3, turns=10**6, consensus=False, deadline_ms=50, takeover_rate=1e-6
    )
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped, answer.agreement) == ("2", "deadline", 1.0)
    assert recorder.draft.running == recorder.target.running == []


async def test_at_the_deadline_without_an_answer_the_chain_so_far_is_returned(
    scripted: Scripted,
) -> None:
    recorder = scripted(endless)
    run = recorder.run(candidates=2, turns=10**6, deadline_ms=50, takeover_rate=1e-6)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == (None, "deadline")
    assert answer.text.startswith("hm hm")
    assert recorder.draft.running == recorder.target.running == []


async def test_at_the_deadline_a_failed_chain_does_not_fail_the_others(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> Line:
        if request.chain.endswith("/0"):
            raise EngineError("lost")
        return endless(seen, request)

    recorder = scripted(draft)
    run = recorder.run(candidates=2, turns=10**6, deadline_ms=50, takeover_rate=1e-6)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.candidate, answer.stopped) == (None, 1, "deadline")


async def test_a_box_that_was_rejected_is_no_answer_at_the_deadline(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: r"\boxed{3}", endless_takeover)
    run = recorder.run(candidates=1, deadline_ms=50, takeover_rate=1 - 1e-6)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == (None, "deadline")
    assert r"\boxed{3}" in answer.text


async def test_cancelling_the_run_leaves_no_request_in_any_engine(scripted: Scripted) -> None:
    recorder = scripted(endless)
    answering = asyncio.create_task(scaling.answer(recorder.run(candidates=4), QUESTION))
    while len(recorder.draft.running) < 4:
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert recorder.draft.running == recorder.target.running == []


@pytest.mark.parametrize("rate", [0.3, 0.7])
async def test_the_same_seed_gives_the_same_decisions_and_the_same_answer(
    scripted: Scripted, rate: float
) -> None:
    def draft(seen: str, request: Generate) -> str:
        return f"{request.seed % 1000} "

    async def once(seed: int) -> tuple[list[object], str | None]:
        recorder = scripted(
            draft,
            lambda seen, request: rf"\boxed{{{request.seed % 7}}}",
            lambda text: len(text) + int(text) / 1000,
        )
        answer = await scaling.answer(
            recorder.run(candidates=6, seed=seed, takeover_rate=rate), QUESTION
        )
        return [(e.candidate, e.turn, e.decision) for e in recorder.of(events.Decided)], answer.text

    assert await once(5) == await once(5)
    assert await once(5) != await once(6)


@pytest.mark.parametrize("policy", ["draft-only", "target-only"])
async def test_a_lone_model_writes_its_chains_without_gate_or_the_other(
    scripted: Scripted, policy: str
) -> None:
    recorder = scripted(lambda seen, request: r"\boxed{2}")
    answer = await scaling.answer(recorder.run(candidates=3, policy=policy), QUESTION)
    assert answer.answer == "2"
    idle = recorder.target if policy == "draft-only" else recorder.draft
    assert idle.generated == []
    assert recorder.of(events.Decided, events.SegmentScored) == []


async def test_a_lone_model_without_an_answer_ends_at_the_length_of_a_full_chain(
    scripted: Scripted,
) -> None:
    recorder = scripted(lambda seen, request: "a" * 1000)
    await scaling.answer(
        recorder.run(policy="draft-only", turns=10, draft_tokens=100, target_tokens=60), QUESTION
    )
    (finished,) = recorder.of(events.CandidateFinished)
    assert (finished.ending, finished.tokens) == ("tokens", 1000)


async def test_each_counted_answer_tells_how_the_vote_stands(scripted: Scripted) -> None:
    said = {"/0": r"\boxed{2}", "/1": r"\boxed{7}", "/2": r"\boxed{2.0}"}

    def draft(seen: str, request: Generate) -> Line:
        place = int(request.chain[-1])
        return Line(said[request.chain[-2:]], ticks=1 + 20 * place)

    recorder = scripted(draft)
    run = recorder.run(candidates=3, consensus=False, takeover_rate=1e-6)
    answer = await scaling.answer(run, QUESTION)
    votes = recorder.of(events.Voted)
    assert [vote.candidate for vote in votes] == [0, 1, 2]
    assert [[one.candidates for one in vote.standings] for vote in votes] == [
        [(0,)],
        [(0,), (1,)],
        [(0, 2), (1,)],
    ]
    last = votes[-1].standings
    assert [(one.answer, one.candidates, one.speaker) for one in last] == [
        (one.answer, one.candidates, one.speaker) for one in answer.votes
    ]


async def test_a_chain_without_an_answer_changes_no_vote(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: Line("no box", "eos"))
    await scaling.answer(recorder.run(candidates=2, takeover_rate=1e-6), QUESTION)
    assert recorder.of(events.Voted) == []


class NeverRenders(ScriptedEngine):
    """An engine that is too busy to render."""

    async def render(self, messages: Sequence[Message]) -> Ids:
        await asyncio.Event().wait()
        raise AssertionError("never reached")


async def test_a_deadline_bounds_the_rendering_of_the_prompts(scripted: Scripted) -> None:
    recorder = scripted(endless)
    recorder.target = NeverRenders(endless, name="target")
    with pytest.raises(DeadlinePassed, match="50 ms passed before any chain had begun"):
        await scaling.answer(recorder.run(deadline_ms=50), QUESTION)
    assert recorder.of(events.RunStarted, events.CandidateStarted) == []


async def test_a_deadline_bounds_the_warm_up_and_leaves_nothing_in_the_engines(
    scripted: Scripted,
) -> None:
    warm = CalibrationSettings(presample=True, coverage="conditional")
    recorder = scripted(endless_takeover, gate=Gate(PAIR, warm))
    with pytest.raises(DeadlinePassed):
        await scaling.answer(recorder.run(candidates=3, deadline_ms=50), QUESTION)
    assert isinstance(recorder.events[-1], events.RunFailed)
    assert recorder.draft.running == recorder.target.running == []
