"""The paper's warm-up, over scripted engines."""

import math
from collections.abc import Callable

from atts_core import events, scaling
from atts_core.acceptance import Gate
from atts_core.calibration.settings import CalibrationSettings
from atts_core.engine import Generate
from atts_core.errors import EngineUnavailable
from atts_core.usage import Usage
from tests.conftest import PAIR, QUESTION, Recorder

Scripted = Callable[..., Recorder]
WARM = CalibrationSettings(presample=True, coverage="conditional")


def draft(seen: str, request: Generate) -> str:
    return "first" if "presample" in request.chain else r"\boxed{2}"


async def test_the_question_s_bank_is_full_before_its_first_decision(scripted: Scripted) -> None:
    recorder = scripted(draft, gate=Gate(PAIR, WARM))
    await scaling.answer(recorder.run(candidates=6, consensus=False), QUESTION)
    first = recorder.of(events.Decided)[0].decision
    assert (first.coverage, first.bank_size) == ("conditional", 6)
    assert len(recorder.of(events.Presampled)) == 6


async def test_without_the_option_nothing_is_sampled_ahead(scripted: Scripted) -> None:
    recorder = scripted(draft)
    await scaling.answer(recorder.run(candidates=6), QUESTION)
    assert recorder.of(events.Presampled) == []


async def test_a_failed_first_segment_makes_the_bank_smaller_and_no_more(
    scripted: Scripted,
) -> None:
    def fails_once(seen: str, request: Generate) -> str:
        if request.chain.endswith("presample-1"):
            raise EngineUnavailable("lost")
        return draft(seen, request)

    recorder = scripted(fails_once, gate=Gate(PAIR, WARM))
    answer = await scaling.answer(recorder.run(candidates=3, consensus=False), QUESTION)
    assert recorder.of(events.Decided)[0].decision.bank_size == 2
    assert answer.agreement == 1.0


async def test_a_first_segment_without_a_score_is_counted_as_written(scripted: Scripted) -> None:
    def rates(text: str) -> float:
        return math.nan if text == "first" else 1.0

    recorder = scripted(draft, rates=rates, gate=Gate(PAIR, WARM))
    await scaling.answer(recorder.run(candidates=2, consensus=False), QUESTION)
    told = recorder.of(events.Presampled)
    assert [(one.tokens, one.scored, one.nll) for one in told] == [(len("first"), 0, None)] * 2
    usage = Usage()
    for event in recorder.events:
        usage.add(event)
    assert usage.draft.wasted["presampled"] == 2 * len("first")
    assert usage.draft.generated == sum(len(text) for _, text in recorder.draft.generated)
