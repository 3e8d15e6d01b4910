"""What every policy keeps: cancelling, failures, seeds, budgets, and the count of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from scripts import chain, judging, steps

from atts_core import events, scaling
from atts_core.engine import Generate, Line, ScriptedEngine
from atts_core.errors import BadInput, EngineError
from atts_core.policies import POLICIES, settle
from atts_core.settings import Method, validated
from atts_core.types import EngineCost
from atts_core.usage import ModelUsage, Usage
from tests.conftest import QUESTION, Recorder

Scripted = Callable[..., Recorder]
NAMES = list(POLICIES)
SPENDING = ("atts", "atts-sync", "random-takeover", "target-only", "speculative-thinking")
"""Whose target writes as much as it may of a chain without an end."""


def endless(seen: str, request: Generate) -> Line:
    return Line(f"wait {len(chain(seen))}\n\n", ticks=20)


def usage_of(recorder: Recorder) -> Usage:
    usage = Usage()
    for event in recorder.events:
        usage.add(event)
    return usage


@pytest.fixture
def pair(scripted: Scripted) -> Callable[..., Recorder]:
    """Both models write the same; the target can grade."""

    def make(write: Any) -> Recorder:
        return scripted(write, judging(write), lambda text: 1 + len(text) % 7)

    return make


@pytest.mark.parametrize("policy", NAMES)
async def test_cancelling_leaves_no_request_in_any_engine(
    pair: Callable[..., Recorder], policy: str
) -> None:
    recorder = pair(endless)
    run = recorder.run(candidates=4, turns=10**6, policy=policy)
    answering = asyncio.create_task(scaling.answer(run, QUESTION))
    for _ in range(400):
        await asyncio.sleep(0)
    while not (recorder.draft.running or recorder.target.running):
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert recorder.draft.running == recorder.target.running == []
    endings = [e.ending for e in recorder.of(events.CandidateFinished)]
    assert endings == ["cancelled"] * 4


@pytest.mark.parametrize("failing", ["/0", "/1", "/3"])
@pytest.mark.parametrize("policy", NAMES)
async def test_a_candidate_that_fails_leaves_the_others(
    pair: Callable[..., Recorder], policy: str, failing: str
) -> None:
    write: Any = steps(2)

    def draft(seen: str, request: Generate) -> Any:
        if request.chain.endswith(failing) and chain(seen):
            raise EngineError("lost")
        return write(seen, request)

    recorder = pair(draft)
    answer = await scaling.answer(
        recorder.run(candidates=4, policy=policy, consensus=False), QUESTION
    )
    endings = {e.candidate: e.ending for e in recorder.of(events.CandidateFinished)}
    assert answer.answer is not None
    assert [k for k, ending in endings.items() if ending == "failed"] == [int(failing[1:])]
    assert recorder.draft.running == recorder.target.running == []


@pytest.mark.parametrize("policy", NAMES)
async def test_a_seed_reproduces_a_run(pair: Callable[..., Recorder], policy: str) -> None:
    async def once(seed: int) -> tuple[list[Any], str]:
        recorder = pair(steps(3))
        run = recorder.run(candidates=4, policy=policy, seed=seed, consensus=False)
        answer = await scaling.answer(run, QUESTION)
        said = [
            (r.chain, text) for e in (recorder.draft, recorder.target) for r, text in e.generated
        ]
        return said, answer.text

    assert await once(5) == await once(5)
    assert await once(5) != await once(6)


@pytest.mark.parametrize("cap", [7, 30, 31])
@pytest.mark.parametrize("policy", NAMES)
async def test_no_chain_is_longer_than_max_tokens(
    pair: Callable[..., Recorder], policy: str, cap: int
) -> None:
    recorder = pair(endless)
    run = recorder.run(candidates=3, turns=10**6, policy=policy, max_tokens=cap)
    await scaling.answer(run, QUESTION)
    finished = recorder.of(events.CandidateFinished)
    assert [(e.ending, e.tokens) for e in finished] == [("tokens", cap)] * 3


@pytest.mark.parametrize("cap", [1, 10, 45])
@pytest.mark.parametrize("policy", NAMES)
async def test_the_target_never_writes_more_than_it_may(
    pair: Callable[..., Recorder], policy: str, cap: int
) -> None:
    recorder = pair(endless)
    run = recorder.run(candidates=3, turns=8, policy=policy, max_target_tokens=cap, max_tokens=300)
    await scaling.answer(run, QUESTION)
    spent = usage_of(recorder).target.generated
    assert spent <= cap
    if cap <= 10 and policy in SPENDING:
        assert spent == cap


@pytest.mark.parametrize("policy", NAMES)
async def test_the_deadline_ends_a_run(pair: Callable[..., Recorder], policy: str) -> None:
    recorder = pair(endless)
    run = recorder.run(candidates=3, turns=10**6, policy=policy, deadline_ms=60)
    answer = await scaling.answer(run, QUESTION)
    assert (answer.answer, answer.stopped) == (None, "deadline")
    assert recorder.draft.running == recorder.target.running == []


@pytest.mark.parametrize("policy", NAMES)
async def test_every_token_is_counted_for_the_model_that_wrote_it(
    pair: Callable[..., Recorder], policy: str
) -> None:
    recorder = pair(steps(3))
    run = recorder.run(candidates=3, policy=policy, consensus=False, confidence=None)
    await scaling.answer(run, QUESTION)
    usage = usage_of(recorder)
    tried = [text for request, text in recorder.target.generated if request.chain == "grading"]
    for engine, counted in ((recorder.draft, usage.draft), (recorder.target, usage.target)):
        wrote = sum(len(text) for request, text in engine.generated if request.chain != "grading")
        assert counted.generated == wrote
    assert len(tried) == (2 if policy == "specreason" else 0)


@pytest.mark.parametrize("policy", [n for n in NAMES if not POLICIES[n].gated])
async def test_who_does_not_ask_the_gate_teaches_it_nothing(
    pair: Callable[..., Recorder], policy: str
) -> None:
    recorder = pair(steps(3))
    await scaling.answer(recorder.run(candidates=3, policy=policy), QUESTION)
    assert recorder.gate.state()["decisions"] == 0
    assert recorder.of(events.Presampled) == []


def test_a_request_s_word_counts_more_than_the_policy_s_and_that_more_than_the_server_s() -> None:
    server = Method(aggregation="first", candidates=3)
    best = settle(server, {"policy": "best-of-n"})
    assert (best.policy, best.aggregation, best.candidates) == ("best-of-n", "best", 3)
    assert settle(server, {"policy": "best-of-n", "aggregation": "majority"}).aggregation == (
        "majority"
    )
    assert settle(server, {}) == server


def test_what_the_server_sets_beside_its_own_policy_stays() -> None:
    server = Method(policy="self-consistency", confidence=0.8)
    settled = settle(server, {})
    assert (settled.confidence, settled.aggregation) == (0.8, "majority")
    assert settle(Method(policy="self-consistency"), {}).confidence == 0.95


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(BadInput, match=r"policy: found 'magic'.*'random-takeover'"):
        validated(Method, {"policy": "magic"})


WRITTEN = (
    events.SegmentDrafted,
    events.TakenOver,
    events.SegmentWritten,
    events.Peeked,
    events.StepJudged,
)


@pytest.mark.parametrize("policy", NAMES)
async def test_a_run_that_is_cut_at_any_moment_counts_all_that_its_engines_did(
    pair: Callable[..., Recorder], policy: str
) -> None:
    """Also results that were there, but had not reached their chain when it was cancelled."""
    cancelled = late = 0
    for moment in range(1, 60):

        def write(seen: str, request: Generate, moment: int = moment) -> Line:
            said = chain(seen)
            if "/0" in request.chain and said:
                return Line(r"\boxed{2}", ticks=moment)
            number = int(request.chain[-1]) if request.chain[-1].isdigit() else 0
            return Line(f"wait {len(said)}\n\n", ticks=2 + number)

        recorder = pair(write)
        await POLICIES[policy].lacks(recorder.draft, recorder.target)  # tried once, by no run
        before = recorder.draft.spent, recorder.target.spent
        run = recorder.run(
            candidates=6, turns=10**6, policy=policy, stop_after=1, max_tokens=400, confidence=None
        )
        await scaling.answer(run, QUESTION)
        usage = usage_of(recorder)
        assert spent(recorder.draft, before[0]) == counts(usage.draft), moment
        assert spent(recorder.target, before[1]) == counts(usage.target), moment
        cancelled += usage.endings.get("cancelled", 0)
        written = [*recorder.draft.generated, *recorder.target.generated]
        late += sum(one.chain != "grading" for one, _ in written) - len(recorder.of(*WRITTEN))
    assert cancelled > 100
    assert late > 0 or policy == "atts-sync"  # there the others wait when a chain has its answer


def spent(engine: ScriptedEngine, before: EngineCost) -> tuple[int, ...]:
    """What the engine has written, rated and read since then."""
    after = engine.spent
    return (
        after.written_tokens - before.written_tokens,
        after.rated_tokens - before.rated_tokens,
        after.prompt_tokens - before.prompt_tokens,
    )


def counts(usage: ModelUsage) -> tuple[int, ...]:
    return usage.generated, usage.scored, usage.prompt
