"""Where texts end before a stop string, and what readers may see before it is certain."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.engine import Generate, Line
from atts_core.events import AnswerReady, CandidateFinished, TakenOver
from atts_core.scaling import answer
from atts_core.stop_strings import certain, cut
from tests.conftest import QUESTION

texts = st.text("ab", max_size=12)
stops = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(tuple)


@given(texts, stops)
def test_a_text_ends_before_its_first_stop_string(text: str, stop: tuple[str, ...]) -> None:
    end = cut(text, stop)
    if end is None:
        assert not any(one in text for one in stop)
    else:
        assert any(text.startswith(one, end) for one in stop)
        assert not any(text.startswith(one, at) for one in stop for at in range(end))


@given(texts, texts, stops)
def test_what_was_shown_is_never_taken_back(text: str, more: str, stop: tuple[str, ...]) -> None:
    """Whatever follows, it stands before the first stop string; nothing follows a whole one."""
    whole = text if cut(text, stop) is not None else text + more
    end = cut(whole, stop)
    assert certain(text, stop) <= (len(whole) if end is None else end)


def test_a_stop_string_across_two_pieces_is_found() -> None:
    assert cut("one EN", ("END",)) is None
    assert cut("one END two", ("END",), since=6) == 4


async def ended(scripted: Any, draft: Any, target: Any = None, **method: Any) -> Any:
    """The outcome of one chain: (its text, how it ended, its takeovers)."""
    run = scripted(draft, target) if target else scripted(draft)
    await answer(run.run(**method), QUESTION)
    (ready,), (finished,) = run.of(AnswerReady), run.of(CandidateFinished)
    return ready.answer.text, finished.ending, len(run.of(TakenOver)), run


async def test_a_chain_ends_before_the_user_s_stop(scripted: Any) -> None:
    text, ending, _, run = await ended(
        scripted, lambda seen, request: Line("one, END", "stop"), stop=("END",), takeover_rate=1e-9
    )
    assert (text, ending) == ("one, ", "stop")
    assert all(request.stop == ("END",) for request, _ in run.draft.generated)


async def test_the_engines_are_told_the_segment_s_stops_and_the_user_s(scripted: Any) -> None:
    def draft(seen: str, request: Generate) -> str:
        return r"\boxed{2}"

    *_, run = await ended(scripted, draft, stop=("END",), segment_stop=("\n",))
    assert run.draft.generated[0][0].stop == ("\n", "END")


async def test_a_stop_that_a_draft_begins_and_the_next_segment_ends_is_found(scripted: Any) -> None:
    def draft(seen: str, request: Generate) -> str:
        return "D, two" if seen.endswith("EN") else "one EN"

    text, ending, *_ = await ended(scripted, draft, stop=("END",), takeover_rate=1e-9)
    assert (text, ending) == ("one ", "stop")


async def test_a_rejected_segment_that_stays_ends_its_chain_and_calls_no_target(
    scripted: Any,
) -> None:
    text, ending, takeovers, _ = await ended(
        scripted, lambda seen, request: "one END", stop=("END",), takeover_rate=1 - 1e-9
    )
    assert (text, ending, takeovers) == ("one ", "stop", 0)


async def test_a_rejected_segment_that_is_replaced_does_not_end_its_chain(scripted: Any) -> None:
    text, ending, takeovers, _ = await ended(
        scripted,
        lambda seen, request: "one END",
        lambda seen, request: r"\boxed{2}",
        stop=("END",),
        takeover_rate=1 - 1e-9,
        on_rejection="replace",
    )
    assert (text, ending, takeovers) == (r"\boxed{2}", "answered", 1)


@pytest.mark.parametrize("policy", ["draft-only", "target-only"])
async def test_lone_models_stop_there_too(scripted: Any, policy: str) -> None:
    def writes(seen: str, request: Generate) -> str:
        return r"one END \boxed{2}"

    text, ending, *_ = await ended(scripted, writes, writes, stop=("END",), policy=policy)
    assert (text, ending) == ("one ", "stop")


async def test_an_answer_before_the_stop_counts(scripted: Any) -> None:
    def draft(seen: str, request: Generate) -> str:
        return r"\boxed{2} END"

    text, ending, *_ = await ended(scripted, draft, stop=("END",), takeover_rate=1e-9)
    assert (text, ending) == (r"\boxed{2} ", "answered")
