"""Two models of different vocabularies on one chain: nothing is lost, doubled or re-encoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import TOKENIZERS, wrapped

from atts_core import events, scaling
from atts_core.acceptance import Gate
from atts_core.allowance import Allowance
from atts_core.candidate import Candidate, Run
from atts_core.chain import Chain, Reading
from atts_core.events import Event
from atts_core.policies.atts import by_gate
from atts_core.settings import Method
from atts_core.types import EngineCost, Ids, Message, Question, Scored, Segment
from models.arithmetic import tokenizer as arithmetic
from services.engines.settings import TransformersSettings
from services.engines.text_codec import TextCodec
from services.engines.transformers_engine import TransformersEngine
from services.pair import pair_of

CODECS = {kind: TextCodec(wrapped(kind)) for kind in TOKENIZERS}
CODECS["embedded"] = TextCodec(arithmetic.build())
KIND = st.sampled_from(sorted(CODECS))
ODD = [
    *("👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "e\u0301", "\u00e9"),
    *("中文", "日本", "한글", "▁", " ", "  ", "\n\n", "\t", "\u200d", "\ufeff", "\ufffd"),
    *("<|end|>", "<unk>", "<0x0A>", "</s>", "<think>", "</think>", r"\boxed{2}"),
]
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TEXT = st.lists(st.sampled_from(ODD) | ANY, max_size=8).map("".join)
PROMPT = "Q: 1+1? A:"


@dataclass
class Writer:
    """One model's side of a chain: it tokenises as its engine does, and says what it is given."""

    codec: TextCodec
    reading: Reading
    prompt: int

    @classmethod
    def of(cls, kind: str, asked: str = PROMPT) -> Writer:
        prompt = CODECS[kind].encode(asked)
        return cls(CODECS[kind], Reading(prompt), len(prompt))

    def before(self) -> tuple[Ids, Ids]:
        """The ids read so far, and at their end those of the tail."""
        history = self.reading.history
        tail = self.codec.tail_ids(history)
        return np.concatenate([history.ids, tail]), tail

    def write(self, wanted: str, limit: int) -> Segment:
        """The start of `wanted`, cut after `limit` tokens, unfinished characters held back."""
        _, tail = self.before()
        ids = self.codec.encode(wanted)[:limit]
        ids = ids[: self.codec.whole(ids.tolist())]
        text = self.codec.decode(ids)
        return Segment(text, ids, "length", self.codec.vocabulary, tail, EngineCost())

    def score(self, segment: Segment) -> Scored:
        _, tail = self.before()
        ids = self.codec.rated(self.reading.history, segment)
        return Scored(ids, np.zeros(len(ids), np.float32), tail, EngineCost())

    @property
    def text(self) -> str:
        """What this model has read of the chain, its tail included."""
        ids, _ = self.before()
        return self.codec.decode(ids[self.prompt :])


TURN = st.tuples(TEXT, st.integers(1, 12), st.sampled_from(["accept", "continue", "replace"]))


@given(KIND, KIND, st.lists(st.tuples(TURN, TEXT, st.integers(1, 12), TEXT), max_size=6))
@example("letters", "sentence_piece", [(("👩‍👩‍👧", 3, "accept"), "", 1, "")])
@example("composed", "prepended", [(("e\u0301", 2, "continue"), "\u0301e", 3, " Check. ")])
def test_no_character_is_lost_or_doubled_in_either_reading(
    draft_kind: str, target_kind: str, turns: list[Any]
) -> None:
    draft, target = Writer.of(draft_kind), Writer.of(target_kind)
    shared = draft.codec.vocabulary == target.codec.vocabulary
    chain = Chain(draft.reading, target.reading, shared)
    for (wanted, limit, verdict), takeover, takeover_limit, cue in turns:
        known = chain.by_draft.history.ids, chain.by_target.history.ids
        segment = draft.write(wanted, limit)
        assert wanted.startswith(segment.text)
        scored = target.score(segment)
        assert target.codec.decode(scored.ids) == segment.text
        assert draft.codec.decode(segment.ids) == segment.text
        if verdict != "replace":
            chain.drafted(segment, scored)
        if verdict == "continue":
            chain.cued(cue)
        if verdict != "accept":
            chain.taken_over(target.write(takeover, takeover_limit))
        assert draft.text == target.text == chain.text
        # What is there is never encoded again.
        for ids, reading in zip(known, (chain.by_draft, chain.by_target), strict=True):
            assert np.array_equal(reading.history.ids[: len(ids)], ids)


@given(KIND, TEXT, st.integers(1, 3))
def test_a_text_written_a_few_tokens_at_a_time_arrives_whole(
    kind: str, text: str, limit: int
) -> None:
    """A segment too short for a character is empty; a longer one holds it."""
    writer = Writer.of(kind)
    written = ""
    while written != text:
        segment = writer.write(text[len(written) :], limit)
        if not segment.tokens:  # tokens may also end within the next character, and the next
            assert limit < len(text.encode())
            limit += 1
            continue
        writer.reading.read(segment.tail_ids, segment.ids)
        written += segment.text
    assert writer.text == text


def test_a_takeover_that_opens_a_thought_is_read_once_by_a_draft_that_opened_it() -> None:
    """Also where both share a vocabulary: their templates may differ."""
    draft = Writer.of("byte_level", PROMPT + "<think>\n")
    target = Writer.of("byte_level")
    chain = Chain(draft.reading, target.reading, shared_vocabulary=True)
    chain.taken_over(target.write("<think>\nTwo", 50))
    rejected = draft.write("nothing", 50)  # and replaced: the draft has still not read its tail
    chain.taken_over(target.write(" or three", 50))
    assert rejected.tail_ids.tolist() == draft.codec.encode("Two").tolist()
    assert draft.text == "Two or three"
    assert target.text == chain.text == "<think>\nTwo or three"


def test_only_the_first_words_of_a_chain_can_repeat_the_prompts_thought() -> None:
    draft, target = Writer.of("letters"), Writer.of("byte_level", PROMPT + "<think>\n")
    chain = Chain(draft.reading, target.reading, shared_vocabulary=False)
    for wanted in ("<think>\n", "So <think>", "<think> again"):
        segment = draft.write(wanted, 50)
        chain.drafted(segment, target.score(segment))
    assert chain.text == "<think>\nSo <think><think> again"
    assert target.text == "So <think><think> again"


def test_a_segment_that_says_nothing_new_is_scored_over_no_token() -> None:
    target = Writer.of("byte_level", PROMPT + "<think>\n")
    assert len(target.score(Writer.of("letters").write("<think>\n", 50)).ids) == 0


# ------------------------------------------------------------------ two real engines

Pair = tuple[TransformersEngine, TransformersEngine]
Opened = Callable[..., TransformersEngine]
QUESTION = Question("q", (Message("user", "Start with 47. Add 38. What is the result?"),))
ROOT = arithmetic.__file__.rsplit("/", 1)[0]


@pytest.fixture(params=["byte_level", "sentence_piece", "prepended"])
def pair(request: pytest.FixtureRequest, opened: Opened) -> Iterator[Pair]:
    """The embedded draft, and a target of another vocabulary that writes at random."""
    target = opened("llama", request.param)
    draft = TransformersEngine.load(TransformersSettings(model=f"{ROOT}/draft", threads=1))
    yield draft, target
    draft.close()


def run_of(pair: Pair, seen: list[Event]) -> Run:
    draft, target = pair
    method = Method(
        candidates=4,
        turns=6,
        draft_tokens=11,
        target_tokens=7,
        takeover_rate=0.5,
        takeover_cue="Check. ",
        temperature=1.0,
        seed=3,
    )
    return Run(
        id="q",
        method=method,
        seed=3,
        draft=draft,
        target=target,
        gate=Gate(pair_of(draft, target)),
        slots=asyncio.Semaphore(100),
        allowance=Allowance(None),
        emit=seen.append,
    )


async def test_a_pair_of_two_vocabularies_answers(
    pair: Pair,
) -> None:
    seen: list[Event] = []
    answer = await scaling.answer(run_of(pair, seen), QUESTION)
    finished = [event for event in seen if isinstance(event, events.CandidateFinished)]
    assert [event.error for event in finished] == [None] * 4
    drafted = {(e.candidate, e.turn): e for e in seen if isinstance(e, events.SegmentDrafted)}
    scored = [event for event in seen if isinstance(event, events.SegmentScored)]
    codec = CODECS_BY_VOCABULARY[pair[1].capabilities.vocabulary]
    assert len(scored) > 4
    for event in scored:
        text = drafted[event.candidate, event.turn].text
        assert event.tokens == len(codec.encode(text))
    assert any(isinstance(event, events.TakenOver) for event in seen)
    told = "".join(
        (event.cue if isinstance(event, events.TakenOver) else "") + event.text
        for event in seen
        if isinstance(event, events.SegmentDrafted | events.TakenOver)
        and event.candidate == answer.candidate
    )
    assert answer.text == told


async def test_both_engines_know_the_whole_chain(
    pair: Pair,
) -> None:
    prompts = [await engine.render(QUESTION.messages) for engine in pair]
    chain = Chain(*map(Reading, prompts), shared_vocabulary=False)
    await Candidate(run_of(pair, []), 0, chain).advance(by_gate)
    assert chain.text
    for engine, prompt, reading in zip(
        pair, prompts, (chain.by_draft, chain.by_target), strict=True
    ):
        codec = CODECS_BY_VOCABULARY[engine.capabilities.vocabulary]
        history = reading.history
        assert codec.decode(history.ids[len(prompt) :]) + history.tail == chain.text


async def test_a_chain_too_long_for_the_target_alone_ends_with_its_text(opened: Opened) -> None:
    """How many tokens a segment is to the target is known when it is there, and it may not fit."""
    draft = TransformersEngine.load(TransformersSettings(model=f"{ROOT}/draft", threads=1))
    target = opened("llama", "sentence_piece", max_len=110)
    seen: list[Event] = []
    try:
        await scaling.answer(run_of((draft, target), seen), QUESTION)
    finally:
        draft.close()
    finished = [event for event in seen if isinstance(event, events.CandidateFinished)]
    assert {event.ending for event in finished} <= {"context", "answered", "eos"}
    assert any(event.ending == "context" for event in finished)


CODECS_BY_VOCABULARY = {codec.vocabulary: codec for codec in CODECS.values()}
