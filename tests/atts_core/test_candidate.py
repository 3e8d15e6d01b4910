"""The loop of one candidate, over scripted engines."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atts_core import events, scaling
from atts_core.acceptance import Decision
from atts_core.calibration.settings import CalibrationSettings
from atts_core.engine import Generate, Line
from atts_core.errors import ContextFull, RunFailed, ScoreMissing
from atts_core.types import Score
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]

ALWAYS, NEVER = 0.999999, 0.000001


async def test_an_accepted_chain_is_the_drafts_alone(scripted: Scripted) -> None:
    recorder = scripted(steps("one\n\n", "two\n\n", r"\boxed{2}"))
    answer = await scaling.answer(recorder.run(takeover_rate=NEVER), QUESTION)
    assert answer.text == "one\n\ntwo\n\n\\boxed{2}"
    assert recorder.target.generated == []


async def test_a_rejected_segment_is_continued_by_the_target(scripted: Scripted) -> None:
    recorder = scripted(steps("wrong. "), lambda seen, request: r"Right: \boxed{2}")
    answer = await scaling.answer(
        recorder.run(takeover_rate=ALWAYS, takeover_cue="Check. "), QUESTION
    )
    assert answer.text == r"wrong. Check. Right: \boxed{2}"
    seen = recorder.target.generated[0][0].history
    assert seen.tail == "Check. "


async def test_a_rejected_segment_is_replaced_where_the_method_says_so(scripted: Scripted) -> None:
    recorder = scripted(steps("wrong. "))
    run = recorder.run(takeover_rate=ALWAYS, on_rejection="replace", takeover_cue="Check. ")
    answer = await scaling.answer(run, QUESTION)
    assert answer.text == r"\boxed{2}"


async def test_both_models_read_the_same_chain_turn_after_turn(scripted: Scripted) -> None:
    read: list[str] = []

    def draft(seen: str, request: Generate) -> str:
        read.append(seen.partition("<assistant>")[2])
        return f"d{len(read)} "

    recorder = scripted(draft, lambda seen, request: "t ")
    await scaling.answer(recorder.run(takeover_rate=ALWAYS, takeover_cue="c ", turns=3), QUESTION)
    assert read == ["", "d1 c t ", "d1 c t d2 c t "]


async def test_a_box_in_a_rejected_segment_is_not_yet_the_answer(scripted: Scripted) -> None:
    recorder = scripted(steps(r"\boxed{1} ", r"\boxed{9} "), steps("hm, ", r"no: \boxed{2}"))
    answer = await scaling.answer(recorder.run(takeover_rate=ALWAYS), QUESTION)
    assert answer.text == r"\boxed{1} hm, \boxed{9} no: \boxed{2}"
    assert answer.answer == "2"


async def test_the_draft_s_end_of_text_ends_an_accepted_chain(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: Line("I give up", "eos"))
    await scaling.answer(recorder.run(takeover_rate=NEVER), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert (finished.ending, finished.answer, finished.turns) == ("eos", None, 1)


async def test_an_empty_segment_is_never_scored(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: Line("", "eos"))
    await scaling.answer(recorder.run(), QUESTION)
    assert recorder.of(events.SegmentScored, events.Decided) == []
    assert recorder.target.running == []


@pytest.mark.parametrize(
    ("method", "ending"),
    [({"turns": 3}, "turns"), ({"max_tokens": 7}, "tokens")],
)
async def test_a_chain_without_end_is_ended_by_its_limits(
    scripted: Scripted, method: dict[str, Any], ending: str
) -> None:
    recorder = scripted(lambda seen, request: "abcd")
    await scaling.answer(recorder.run(takeover_rate=NEVER, **method), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert finished.ending == ending
    assert finished.tokens <= 12


async def test_a_chain_ends_where_a_model_s_context_does(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "abcdefghij", draft_context=40)
    await scaling.answer(recorder.run(takeover_rate=NEVER, turns=20), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert finished.ending == "context"


async def test_a_failed_candidate_costs_its_own_work_only(scripted: Scripted) -> None:
    def rates(text: str) -> float:
        if text.startswith("bad"):
            raise ScoreMissing("no log-probabilities")
        return 1.0

    recorder = scripted(
        lambda seen, request: "bad" if request.chain.endswith("/1") else r"\boxed{2}", rates=rates
    )
    answer = await scaling.answer(
        recorder.run(candidates=3, takeover_rate=NEVER, consensus=False), QUESTION
    )
    assert (answer.answer, answer.agreement) == ("2", 1.0)
    failed = [e for e in recorder.of(events.CandidateFinished) if e.ending == "failed"]
    assert [(e.candidate, e.error) for e in failed] == [(1, "ScoreMissing: no log-probabilities")]


async def test_when_all_candidates_fail_the_run_does(scripted: Scripted) -> None:
    def broken(seen: str, request: Generate) -> str:
        raise ScoreMissing("the model is gone")

    recorder = scripted(broken)
    with pytest.raises(RunFailed, match="the model is gone"):
        await scaling.answer(recorder.run(candidates=2), QUESTION)


async def test_a_segment_without_finite_score_is_an_error_and_no_guess(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: "x", rates=lambda text: float("inf"))
    with pytest.raises(RunFailed, match="not finite"):
        await scaling.answer(recorder.run(), QUESTION)
    assert recorder.of(events.Decided) == []


async def test_a_takeover_that_must_wait_waits_alone(scripted: Scripted) -> None:
    """No slot is free: the rejected candidate waits, its sibling goes on to its answer."""
    recorder = scripted(
        lambda seen, request: r"\boxed{2}" if request.chain.endswith("/0") else "x",
        gate=RejectsSingleLetters(),
    )
    run = recorder.run(candidates=2, turns=1, places=0)
    answering = asyncio.create_task(scaling.answer(run, QUESTION))
    while not recorder.of(events.CandidateFinished):
        await asyncio.sleep(0)
    assert [e.candidate for e in recorder.of(events.CandidateFinished)] == [0]
    assert recorder.of(events.TakenOver) == []
    run.slots.release()
    await answering
    assert [e.candidate for e in recorder.of(events.TakenOver)] == [1]


async def test_when_the_target_s_tokens_are_spent_the_draft_goes_on_alone(
    scripted: Scripted,
) -> None:
    recorder = scripted(lambda seen, request: "draft ", lambda seen, request: "target ")
    run = recorder.run(takeover_rate=ALWAYS, turns=4, max_target_tokens=10)
    answer = await scaling.answer(run, QUESTION)
    assert answer.text == "draft target draft tardraft draft "
    assert [e.turn for e in recorder.of(events.TakeoverSkipped)] == [2, 3]


async def test_takeovers_at_once_stay_within_the_target_s_tokens_together(
    scripted: Scripted,
) -> None:
    recorder = scripted(lambda seen, request: "d", lambda seen, request: "t" * 9)
    run = recorder.run(candidates=4, takeover_rate=ALWAYS, turns=3, max_target_tokens=20)
    await scaling.answer(run, QUESTION)
    assert sum(e.tokens for e in recorder.of(events.TakenOver)) <= 20


class RejectsSingleLetters:
    """A gate whose verdict a test can foresee."""

    settings = CalibrationSettings()

    def decide(self, score: Score, **_: Any) -> Decision:
        return Decision(score.tokens == 1, 0.5, 0.5, 0.5, 0.5, "fixed", "none", 0, True)

    def forget(self, question: str) -> None: ...


def steps(*lines: str) -> Callable[[str, Generate], str]:
    """Each line once, in order, for a single candidate."""
    rest = iter(lines)
    return lambda seen, request: next(rest)


async def test_no_room_for_a_character_is_not_the_end_of_the_text(scripted: Scripted) -> None:
    recorder = scripted(steps("one ", Line("", "length")))
    answer = await scaling.answer(recorder.run(takeover_rate=NEVER), QUESTION)
    assert answer.text == "one "
    assert [e.ending for e in recorder.of(events.CandidateFinished)] == ["context"]


@pytest.mark.timeout(10)
async def test_a_model_alone_without_room_for_a_character_stops(scripted: Scripted) -> None:
    recorder = scripted(steps("one ", Line("", "length")))
    await scaling.answer(recorder.run(policy="draft-only"), QUESTION)
    assert [e.ending for e in recorder.of(events.CandidateFinished)] == ["context"]


async def test_a_chain_that_does_not_fit_the_target_ends_and_has_its_vote(
    scripted: Scripted,
) -> None:
    def rates(text: str) -> float:
        if text == "two ":
            raise ContextFull("target: 9 tokens, the context is 8")
        return 1.0

    recorder = scripted(steps("one ", "two "), rates=rates)
    answer = await scaling.answer(recorder.run(takeover_rate=NEVER), QUESTION)
    assert answer.text == "one "
    (finished,) = recorder.of(events.CandidateFinished)
    assert (finished.ending, finished.error) == ("context", None)
