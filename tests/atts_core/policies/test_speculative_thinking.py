"""Speculative Thinking's published rules, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scripts import chain, in_order

from atts_core import events, scaling
from atts_core.engine import Generate, Line
from atts_core.policies.speculative_thinking import LOOK_BACK, mood
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]
END = r"\boxed{2}"
AT_A_PEEK = 20


def run_of(recorder: Recorder, **method: Any) -> Any:
    limits = {"turns": 100, "draft_tokens": 500, "target_tokens": 500}
    return recorder.run(policy="speculative-thinking", **{**limits, **method})


async def answered(recorder: Recorder, **method: Any) -> str:
    return (await scaling.answer(run_of(recorder, **method), QUESTION)).text


def asked(generated: list[tuple[Generate, str]]) -> list[tuple[int, tuple[str, ...]]]:
    return [(request.max_tokens, request.stop) for request, _ in generated]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 3 + 4 = 7", 0),
        ("Wait, no", -1),
        ("Alternatively", -1),
        ("hold on", -1),
        ("another way", -1),
        ("let me verify", -1),
        ("think again", -1),
        ("to recap", -1),
        ("CHECK it", -1),
        ("Yeah", 1),
        ("yes", 1),
        ("the final answer", 1),
        ("I am confident", 1),
        ("yes, yes, but wait", 1),
        ("yes, but wait", -1),
        ("wait, wait, yes", -1),
    ],
)
def test_the_mood_of_a_text_is_that_of_most_of_its_words(text: str, expected: int) -> None:
    assert mood(text) == expected


async def test_a_peek_without_such_words_is_discarded(scripted: Scripted) -> None:
    recorder = scripted(in_order("one\n\n", "so", "two\n\n", "so", END), in_order())
    assert await answered(recorder) == "one\n\ntwo\n\n" + END
    assert asked(recorder.draft.generated) == [
        (1024, ("\n\n",)),
        (20, ()),
        (1024, ("\n\n",)),
        (20, ()),
        (1024, ("\n\n",)),
    ]
    assert [e.text for e in recorder.of(events.Peeked)] == ["so", "so"]


@pytest.mark.parametrize("word", ["wait", "check", "yes"])
async def test_at_a_word_the_target_writes_20_tokens_in_place_of_the_peek(
    scripted: Scripted, word: str
) -> None:
    recorder = scripted(in_order("one\n\n", word, END), in_order("then "))
    assert await answered(recorder) == "one\n\nthen " + END
    assert asked(recorder.target.generated) == [(20, ())]


async def test_where_the_target_checks_it_writes_125_tokens_more(scripted: Scripted) -> None:
    recorder = scripted(in_order("one\n\n", "wait", END), in_order("let me check ", "all well "))
    assert await answered(recorder) == "one\n\nlet me check all well " + END
    assert asked(recorder.target.generated) == [(20, ()), (125, ())]
    turns = [e.turn for e in recorder.of(events.TakenOver)]
    assert turns == [0, 1]


async def test_after_15_doubts_the_target_looks_back_and_then_later_and_longer(
    scripted: Scripted,
) -> None:
    def draft(seen: str, request: Generate) -> str:
        return "wait" if request.max_tokens == AT_A_PEEK else "hm\n\n"

    def target(seen: str, request: Generate) -> str:
        return "wait " if request.max_tokens == AT_A_PEEK else "fine "

    recorder = scripted(draft, target)
    text = await answered(recorder, max_tokens=2500)
    asked_for = [request.max_tokens for request, _ in recorder.target.generated]
    lengths = [n for n in asked_for if n > AT_A_PEEK]
    between = [
        len(part) for part in "".join("." if n <= AT_A_PEEK else "|" for n in asked_for).split("|")
    ]
    assert lengths[:5] == [125, 150, 175, 200, 200]
    assert between[:5] == [15, 20, 25, 30, 30]
    assert text.count(LOOK_BACK + "fine ") == len(lengths)
    cues = [e.cue for e in recorder.of(events.TakenOver) if e.text == "fine "]
    assert cues == [LOOK_BACK] * len(lengths)


async def test_no_doubt_is_counted_where_the_target_does_not_doubt(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> str:
        return "wait" if request.max_tokens == AT_A_PEEK else "hm\n\n"

    recorder = scripted(draft, lambda seen, request: "yes ")
    assert LOOK_BACK not in await answered(recorder, max_tokens=800)


async def test_a_paragraph_cut_by_its_length_is_not_looked_behind(scripted: Scripted) -> None:
    recorder = scripted(in_order("a" * 2000, END))
    await answered(recorder)
    assert asked(recorder.draft.generated) == [(1024, ("\n\n",))] * 2


@pytest.mark.parametrize(
    ("draft", "target", "ending"),
    [
        ([END], [], "answered"),
        ([Line("end", "eos")], [], "eos"),
        (["one\n\n", "so", Line("", "eos")], [], "eos"),
        (["one\n\n", "wait"], [END], "answered"),
        (["one\n\n", "wait"], [Line("", "eos")], "eos"),
        (["one\n\n", "wait"], ["check ", END], "answered"),
    ],
)
async def test_either_model_ends_the_chain(
    scripted: Scripted, draft: list[Any], target: list[Any], ending: str
) -> None:
    recorder = scripted(in_order(*draft), in_order(*target))
    await answered(recorder)
    (finished,) = recorder.of(events.CandidateFinished)
    assert finished.ending == ending


async def test_the_target_may_end_a_chain_as_it_looks_back(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> str:
        return "wait" if request.max_tokens == AT_A_PEEK else "hm\n\n"

    def target(seen: str, request: Generate) -> str:
        return "wait " if request.max_tokens == AT_A_PEEK else END

    assert (await answered(scripted(draft, target))).endswith(LOOK_BACK + END)


async def test_a_chain_is_as_long_as_one_with_turns_at_most(scripted: Scripted) -> None:
    for length in range(30, 70):
        recorder = scripted(
            lambda seen, request: "check" if request.max_tokens == AT_A_PEEK else "hm\n\n",
            lambda seen, request: "check " * 9,
        )
        await answered(recorder, turns=1, draft_tokens=length, target_tokens=length)
        (finished,) = recorder.of(events.CandidateFinished)
        assert (finished.ending, finished.tokens) == ("tokens", length)


async def test_the_draft_goes_on_alone_when_the_target_is_spent(scripted: Scripted) -> None:
    def draft(seen: str, request: Generate) -> str:
        if chain(seen).count("hm") == 3:
            return END
        return "wait" if request.max_tokens == AT_A_PEEK else "hm\n\n"

    recorder = scripted(draft, lambda seen, request: "check")
    assert await answered(recorder, max_target_tokens=5) == "hm\n\ncheckhm\n\nhm\n\n" + END
    assert len(recorder.of(events.Peeked)) == 1
    assert len(recorder.of(events.TakeoverSkipped)) == 1


async def test_two_models_of_one_vocabulary_exchange_ids(scripted: Scripted) -> None:
    """What the draft reads after a takeover is what was written, and nothing of the peek."""
    recorder = scripted(in_order("one\n\n", "wait", END), in_order("then "))
    await answered(recorder)
    request, _ = recorder.draft.generated[-1]
    assert chain("".join(map(chr, request.history.ids))) == "one\n\nthen "
    assert request.history.tail == ""
