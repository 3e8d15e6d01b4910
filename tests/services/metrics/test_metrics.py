"""Metrics of scripted runs: the values are those of the events and of the responses."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar

import prometheus_client
import pytest

from atts_core import events
from atts_core.engine import ScriptedEngine
from atts_core.errors import AttsError, EngineUnavailable
from atts_core.types import Message
from services.local import LocalBackend
from services.metrics import catalogue as c
from services.metrics.backend import NOTHING, RegistryBackend
from services.metrics.board import Board
from services.metrics.follow import ServiceMetrics
from services.metrics.looks import look_at_engine, look_at_router
from services.metrics.split import STAGES
from tests.services.conftest import ANSWER, backend

ASKED = (Message("user", "1+1?"),)


class Measured:
    """A service over scripted engines, its registry, and every event of its runs."""

    def __init__(self, *engines: Any, **settings: Any) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.backend: LocalBackend = backend(*engines, **settings)
        self.board = Board(RegistryBackend(self.registry, application="atts"))
        wanted = self.backend.settings
        self.metrics = ServiceMetrics(self.board, wanted.served_model, wanted.method)
        self.backend.service.watchers.append(self.metrics)
        self.events: list[events.Event] = []

    async def ask(self, **method: Any) -> Any:
        wanted = self.backend.settings.method.model_copy(update=method)
        try:
            return await self.backend.service.answer(ASKED, wanted, emit=self.events.append)
        finally:
            self.board.hand_on()

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of that name which have these labels."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == f"ray_atts_{name}" and labels.items() <= sample.labels.items()
        )

    def counters(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        """The series of all counters that have a value."""
        return {
            (sample.name, frozenset(sample.labels.items()))
            for family in self.registry.collect()
            if family.type == "counter"
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


def drafts(seen: str, request: Any) -> str:
    """Three steps, then the answer."""
    return ANSWER if seen.count("step") >= 3 else "step "


def busy(**settings: Any) -> Measured:
    """Segments that are taken over at times."""
    method = {"candidates": 6, "turns": 8, "takeover_rate": 0.4, "consensus": False, "seed": 3}
    return Measured(
        drafts,
        lambda seen, request: "step ",
        lambda text: 1.0 + len(text) / 7,
        method=method,
        **settings,
    )


async def test_counters_equal_the_counts_of_the_events() -> None:
    one = busy()
    for seed in range(5):
        await one.ask(seed=seed)
    assert one.total("request_success_total") == 5
    assert one.total("segments_total", role="draft") == len(one.of(events.SegmentDrafted)) > 0
    assert one.total("takeovers_total") == len(one.of(events.TakenOver)) > 0
    assert one.total("decisions_total") == len(one.of(events.Decided)) > 0
    assert one.total("p_value_count") == len(one.of(events.Decided))
    endings = Counter(event.ending for event in one.of(events.CandidateFinished))
    for ending, number in endings.items():
        assert one.total("candidates_total", ending=ending) == number
    assert one.total("candidates_total") == 30


async def test_cancelled_candidates_are_counted_by_why_their_run_ended() -> None:
    one = busy()
    for method in ({"consensus": True}, {"consensus": True, "stop_after": 1}):
        for seed in range(4):
            await one.ask(seed=seed, **method)
    leaving = asyncio.create_task(one.ask(seed=9))
    while not one.metrics.open or not one.metrics.open[0].open:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    by_reason = {
        reason: one.total("candidates_cancelled_total", reason=reason)
        for reason in ("consensus", "count", "cancelled")
    }
    assert min(by_reason.values()) > 0
    assert sum(by_reason.values()) == one.total("candidates_total", ending="cancelled")
    assert one.total("candidates_cancelled_total", reason="cancelled") <= 6


async def test_answers_by_latency_are_the_answers() -> None:
    one = busy()
    for seed in range(3):
        await one.ask(seed=seed)
    assert one.total("request_answers_by_latency_total") == 3
    assert one.total("e2e_request_latency_seconds_count") == 3


async def test_a_bank_that_is_gone_is_shown_as_empty() -> None:
    one = busy(calibration={"coverage": "turn"})
    await one.ask()
    look_at_router(one.board, one.backend, one.metrics)
    one.board.hand_on()
    assert one.total("bank_scores", bank="turn:0") > 0
    one.backend.service.gate.reset()
    look_at_router(one.board, one.backend, one.metrics)
    one.board.hand_on()
    assert one.total("bank_scores") == 0


async def test_tokens_by_model_and_kind_equal_those_of_the_responses() -> None:
    one = busy()
    outcomes = [await one.ask(seed=seed) for seed in range(3)]
    for role in ("draft", "target"):
        for kind in ("generated", "scored", "prompt", "cached"):
            told = sum(getattr(getattr(o.usage, role), kind) for o in outcomes)
            assert one.total("tokens_total", role=role, kind=kind) == told
        wasted = sum(sum(getattr(o.usage, role).wasted.values()) for o in outcomes)
        assert one.total("wasted_tokens_total", role=role) == wasted


async def test_the_takeover_rate_equals_that_of_the_responses_turn_by_turn() -> None:
    one = busy()
    outcomes = [await one.ask(seed=seed) for seed in range(5)]
    told = sum(o.usage.rejected for o in outcomes) / sum(o.usage.decisions for o in outcomes)
    assert one.total("rejected_total") / one.total("decisions_total") == told > 0
    assert one.total("nominal_takeovers_total") / one.total("decisions_total") == pytest.approx(0.4)
    for turn in {event.turn for event in one.of(events.Decided)}:
        decided = [e.decision.taken_over for e in one.of(events.Decided) if e.turn == turn]
        assert one.total("decisions_total", turn=str(turn)) == len(decided)
        assert one.total("rejected_total", turn=str(turn)) == sum(decided)


async def test_every_counter_that_a_first_question_moves_is_there_before_it() -> None:
    """A rate needs a sample from before; what appears with its first value is lost to it."""
    one = busy()
    one.board.hand_on()
    before = one.counters()
    await one.ask()
    assert one.counters() == before


async def test_a_policy_s_first_request_is_seen_by_a_rate() -> None:
    one = busy()
    one.board.hand_on()
    before = one.counters()
    await one.ask(policy="atts-sync")
    ended = {series for series in one.counters() if "request_success" in series[0]}
    assert ended <= before


@pytest.mark.parametrize(
    "method",
    [
        {},
        {"policy": "atts-sync"},
        {"policy": "target-only"},
        {"consensus": True},
        {"candidates": 1},
    ],
    ids=str,
)
async def test_the_split_adds_up_to_the_latency(method: dict[str, Any]) -> None:
    one = busy()
    outcome = await one.ask(**method)
    split = sum(one.total("request_stage_seconds_sum", stage=stage) for stage in STAGES)
    # A run of two milliseconds: what lies between its own clock and the split's is some of that.
    assert split == pytest.approx(outcome.seconds, rel=0.02, abs=5e-4)
    assert split == pytest.approx(one.total("e2e_request_latency_seconds_sum"))
    assert one.total("request_stage_by_latency_seconds_total") == pytest.approx(split)


async def test_a_lone_chain_s_stages_are_what_its_caller_waited_for_them() -> None:
    one = busy()
    outcome = await one.ask(candidates=1)
    waited = outcome.usage.seconds
    for stage in ("draft", "score", "takeover"):
        told = one.total("request_stage_seconds_sum", stage=stage)
        assert told == pytest.approx(waited.get(stage, 0.0), rel=0.05, abs=1e-3)


async def test_a_run_that_fails_is_counted_and_has_no_latency() -> None:
    def breaks(text: str) -> float:
        return float("nan")

    one = Measured(drafts, drafts, breaks, method={"candidates": 2})
    with pytest.raises(AttsError):
        await one.ask()
    assert one.total("request_success_total", finished_reason="failed") == 1
    assert one.total("e2e_request_latency_seconds_count") == 0
    assert one.total("candidates_total", ending="failed") == 2
    assert not one.metrics.open


async def test_what_a_router_is_now_is_shown() -> None:
    one = busy(limits={"max_running": 7})
    await one.ask()
    look_at_router(one.board, one.backend, one.metrics)
    one.board.hand_on()
    decided = len(one.of(events.Decided))
    assert one.total("bank_scores", bank="all") == one.total("upload_backlog_scores") == decided
    assert one.total("num_requests_allowed") == 7
    assert one.total("num_requests_running") == one.total("num_candidates_running") == 0
    assert one.total("router_up") == 1


class Engine(ScriptedEngine):
    """A scripted engine with a status; it can die."""

    told: ClassVar[dict[str, Any]] = {
        "running": 2, "waiting": 1, "kv_used": 30, "kv_cached": 10, "kv_tokens": 100,
    }  # fmt: skip

    def __init__(self, **status: Any) -> None:
        super().__init__(drafts, name="small")
        self.said = status
        self.dead = False

    def status(self) -> dict[str, Any]:
        return self.told | self.said

    def check(self) -> None:
        if self.dead:
            raise EngineUnavailable("small: its thread has ended")

    def close(self) -> None:
        self.dead = True


def test_an_engine_that_died_or_whose_server_is_away_is_not_up() -> None:
    one = busy()
    local, remote = Engine(), Engine(reached=False)
    for role, engine in (("draft", local), ("target", remote)):
        look_at_engine(one.board, role, engine)
    one.board.hand_on()
    assert one.total("engine_up", role="draft") == 1
    assert one.total("engine_up", role="target") == 0
    local.close()
    remote.said = {"reached": True}
    for role, engine in (("draft", local), ("target", remote)):
        look_at_engine(one.board, role, engine)
    one.board.hand_on()
    assert one.total("engine_up", role="draft") == 0
    assert one.total("engine_up", role="target") == 1


def test_an_engine_s_totals_are_counted_once() -> None:
    one = busy()
    for steps in (5, 5, 9):
        look_at_engine(one.board, "draft", Engine(steps=steps))
        one.board.hand_on()
    assert one.total("engine_steps_total") == 9
    assert one.total("kv_cache_usage_perc") == pytest.approx(0.2)
    assert one.total("engine_num_requests_waiting") == 1


class Absent:
    """A backend that is not there."""

    def count(self, *given: Any) -> None:
        raise ConnectionError("no agent")

    observe = set = count


async def test_without_a_backend_requests_go_on_and_nothing_counted_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = busy()
    there, one.board._backend = one.board._backend, Absent()
    with pytest.raises(ConnectionError):
        await one.ask()  # the test hands on by itself; the run has ended by then
    for _ in range(3):
        one.board.attempt(lambda: None)
    assert sum("not handed on" in line for line in caplog.messages) == 1
    one.board._backend = there
    one.board.attempt(lambda: None)
    assert one.total("request_success_total") == 1
    assert one.total("decisions_total") == len(one.of(events.Decided))


def test_a_look_that_fails_keeps_nothing_counted_back(caplog: pytest.LogCaptureFixture) -> None:
    one = busy()

    def look() -> None:
        raise RuntimeError("no status")

    one.board.count(c.SEGMENTS, "atts", "atts", "draft", by=3)
    for _ in range(2):
        one.board.attempt(look)
    assert one.total("segments_total") == 3
    assert sum("not looked at: RuntimeError: no status" in line for line in caplog.messages) == 1


def test_labels_are_bounded_and_hold_no_ids() -> None:
    assert {c.turn_label(turn) for turn in range(1000)} == {*map(str, range(32)), "32+"}
    assert len({c.latency_label(2.0**power) for power in range(-10, 20)}) == 5
    for metric in c.METRICS:
        assert not {"id", "run", "request", "key", "candidate"} & set(metric.labels)
    assert NOTHING + 1 == 1
