"""SpecReason's published rules, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scripts import GRADING, in_order, judging

from atts_core import events, scaling
from atts_core.engine import Generate, Line, ScriptedEngine
from atts_core.errors import BadInput, PolicyLacks, PromptTooLong
from atts_core.policies.specreason import STEP
from atts_core.types import Ids, Message, Question
from atts_core.usage import Usage
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]


def run_of(recorder: Recorder, **method: Any) -> Any:
    return recorder.run(policy="specreason", **{"turns": 100, **method})


def texts(recorder: Recorder) -> list[str]:
    """What the target wrote as steps."""
    return [e.text for e in recorder.of(events.TakenOver)]


async def test_a_good_step_is_accepted_and_a_poor_one_written_anew(scripted: Scripted) -> None:
    recorder = scripted(
        in_order("one\n\n", "poor\n\n", "three\n\n", r"\boxed{2}"),
        judging(in_order("two\n\n"), ["7", "6", "9", "8"]),
    )
    answer = await scaling.answer(run_of(recorder), QUESTION)
    assert answer.text == "one\n\ntwo\n\nthree\n\n\\boxed{2}"
    judged = [(e.grade, e.accepted) for e in recorder.of(events.StepJudged)]
    assert judged == [(7, True), (6, False), (9, True), (8, True)]
    (taken_over,) = recorder.of(events.TakenOver)
    assert taken_over.replaces


async def test_verdicts_stand_in_no_chain_and_are_counted_as_such(scripted: Scripted) -> None:
    recorder = scripted(in_order("one\n\n", r"\boxed{2}"), judging(in_order(), ["7", "9"]))
    await scaling.answer(run_of(recorder), QUESTION)
    usage = Usage()
    for event in recorder.events:
        usage.add(event)
    assert usage.target.wasted["judged"] == usage.target.generated == 2


async def test_a_step_ends_at_a_blank_line_or_at_512_tokens(scripted: Scripted) -> None:
    recorder = scripted(
        in_order("poor\n\n", r"\boxed{2}"), judging(in_order("two\n\n"), ["0", "9"])
    )
    await scaling.answer(run_of(recorder), QUESTION)
    asked = [request for request, _ in (*recorder.draft.generated, *recorder.target.generated)]
    steps = [request for request in asked if request.max_tokens > 1]
    assert {(request.max_tokens, request.stop) for request in steps} == {(STEP, ("\n\n",))}
    assert STEP == 512


@pytest.mark.parametrize(
    ("said", "value"), [("7", 7), (" 9", 9), ("10", 10), ("", 0), ("²", 0), ("good", 0), ("-7", 0)]
)
async def test_what_is_no_number_counts_0(scripted: Scripted, said: str, value: int) -> None:
    class Wordy(ScriptedEngine):
        """Its grades are one token each, however many characters."""

        async def _generate(self, request: Generate) -> Any:
            written = await super()._generate(request)
            graded = request.history.tail == GRADING and request.chain != "grading"
            return (
                written
                if not graded
                else type(written)(
                    said, written.ids, "length", written.vocabulary, written.tail_ids, written.cost
                )
            )

    recorder = scripted(in_order(r"\boxed{2}"))
    recorder.target = Wordy(judging(in_order(r"\boxed{3}")), name="target")
    answer = await scaling.answer(run_of(recorder), QUESTION)
    (judged,) = recorder.of(events.StepJudged)
    assert (judged.said, judged.grade, judged.accepted) == (said, value, value >= 7)
    assert answer.answer == ("2" if value >= 7 else "3")


async def test_the_target_grades_greedily_with_one_token(scripted: Scripted) -> None:
    asked: list[tuple[str, Generate]] = []

    def target(seen: str, request: Generate) -> Any:
        asked.append((seen, request))
        return "1" if "71" in seen else "9"

    recorder = scripted(in_order("one\n\n", r"\boxed{2}"), target)
    await scaling.answer(run_of(recorder), QUESTION)
    seen, request = asked[-1]
    assert (request.max_tokens, request.sampling.temperature) == (1, 0.0)
    assert seen.startswith("<user>1+1?\n\nReasoning so far:\n\none\n\n\\boxed{2}\n\nGrade")
    assert seen.endswith("<assistant>" + GRADING)


async def test_earlier_messages_stay_before_the_question(scripted: Scripted) -> None:
    asked: list[str] = []

    def target(seen: str, request: Generate) -> Any:
        asked.append(seen)
        return "1" if "71" in seen else "9"

    recorder = scripted(in_order(r"\boxed{2}"), target)
    question = Question("q", (Message("system", "Be brief."), Message("user", "1+1?")))
    await scaling.answer(run_of(recorder), question)
    assert asked[-1].startswith("<system>Be brief.<user>1+1?\n\nReasoning so far:")


async def test_a_chain_that_repeats_its_step_is_given_up_after_its_third(
    scripted: Scripted,
) -> None:
    recorder = scripted(in_order("one\n\n", "one\n\n", "one\n\n"), judging(in_order()))
    await scaling.answer(run_of(recorder), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert (finished.ending, finished.turns) == ("stopped", 3)


async def test_a_chain_ends_with_the_text_of_either_model(scripted: Scripted) -> None:
    for draft, target, grades, text in (
        (["one\n\n", Line("end", "eos")], [], [], "one\n\nend"),
        (["one\n\n", Line("", "eos")], [], [], "one\n\n"),
        (["poor\n\n"], [Line("end", "eos")], ["0"], "end"),
    ):
        recorder = scripted(in_order(*draft), judging(in_order(*target), grades))
        answer = await scaling.answer(run_of(recorder), QUESTION)
        (finished,) = recorder.of(events.CandidateFinished)
        assert (answer.text, finished.ending) == (text, "eos")


async def test_a_box_in_a_discarded_step_is_no_answer(scripted: Scripted) -> None:
    recorder = scripted(
        in_order(r"\boxed{3}", r"\boxed{2}"), judging(in_order("two\n\n"), ["0", "9"])
    )
    assert (await scaling.answer(run_of(recorder), QUESTION)).text == "two\n\n\\boxed{2}"


async def test_a_chain_is_as_long_as_one_with_turns_at_most(scripted: Scripted) -> None:
    recorder = scripted(lambda seen, request: f"{len(seen)}\n\n", judging(lambda seen, request: ""))
    await scaling.answer(run_of(recorder, turns=2, draft_tokens=20, target_tokens=30), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert (finished.ending, finished.tokens) == ("tokens", 60)


async def test_when_the_target_is_spent_every_step_is_accepted(scripted: Scripted) -> None:
    recorder = scripted(
        in_order("one\n\n", "two\n\n", r"\boxed{2}"), judging(in_order("xyz"), ["0", "0", "0"])
    )
    answer = await scaling.answer(run_of(recorder, max_target_tokens=1), QUESTION)
    assert answer.text == "one\n\ntwo\n\n\\boxed{2}"
    assert len(recorder.of(events.StepJudged)) == 1
    assert len(recorder.of(events.TakeoverSkipped)) == 3


async def test_a_chain_that_the_target_cannot_read_any_more_ends(scripted: Scripted) -> None:
    class Short(ScriptedEngine):
        async def render(self, messages: Any) -> Ids:
            if "two" in messages[-1].content:
                raise PromptTooLong("too long", field="messages")
            return await super().render(messages)

    recorder = scripted(in_order("one\n\n", "two\n\n"))
    recorder.target = Short(judging(in_order()), name="target")
    answer = await scaling.answer(run_of(recorder), QUESTION)
    (finished,) = recorder.of(events.CandidateFinished)
    assert (finished.ending, answer.text) == ("context", "one\n\n")


@pytest.mark.parametrize("said", ["x", "5"])
async def test_a_target_that_cannot_grade_is_refused_by_what_it_said(
    scripted: Scripted, said: str
) -> None:
    recorder = scripted(in_order(), lambda seen, request: said)
    wanted = rf"specreason cannot be served here.*target says '{said}'"
    with pytest.raises(PolicyLacks, match=wanted) as refused:
        await scaling.answer(run_of(recorder), QUESTION)
    assert refused.value.field == "atts.policy"
    assert recorder.events == []
    assert len(recorder.target.generated) == 2
    with pytest.raises(PolicyLacks):
        await scaling.answer(run_of(recorder), QUESTION)
    assert len(recorder.target.generated) == 2  # it is tried once


async def test_a_target_that_cannot_read_the_request_is_refused(scripted: Scripted) -> None:
    class Deaf(ScriptedEngine):
        async def render(self, messages: Any) -> Ids:
            raise BadInput("no such words", field="messages")

    recorder = scripted(in_order())
    recorder.target = Deaf(judging(in_order()), name="target")
    with pytest.raises(PolicyLacks, match="target cannot read the request: no such words"):
        await scaling.answer(run_of(recorder), QUESTION)
