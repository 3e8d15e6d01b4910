"""What is kept of a run's events: tokens, time, waste."""

from __future__ import annotations

from typing import Any

import pytest

from atts_core.engine import Line
from services.client import local_run
from services.evaluation.account import Account, length, union
from tests.services.conftest import backend

COST = {"queued": 0.1, "busy": 0.4, "prompt_tokens": 1, "cached_tokens": 0, "replica": ""}


def drafted(at: float, tokens: int = 5, candidate: int = 0, **more: Any) -> dict[str, Any]:
    event = {"event": "SegmentDrafted", "at": at, "candidate": candidate, "turn": 0}
    return {**event, "tokens": tokens, "seconds": 0.5, "cost": COST, **more}


def finished(
    at: float, tokens: int, candidate: int = 0, ending: str = "answered"
) -> dict[str, Any]:
    event = {"event": "CandidateFinished", "at": at, "candidate": candidate, "ending": ending}
    return {**event, "answer": "2", "turns": 1, "takeovers": 0, "tokens": tokens, "error": None}


def folded(*events: dict[str, Any]) -> Account:
    account = Account()
    for event in events:
        account.add(event)
    return account


def test_overlapping_spans_are_one() -> None:
    assert union([(3, 4), (0, 1), (0.5, 2)]) == [(0, 2), (3, 4)]
    assert union([(0, 1), (1.1, 2)], 0.2) == [(0, 2)]
    assert length([(0, 1), (0.5, 2), (3, 4)]) == 3


def test_an_engine_that_serves_two_chains_at_once_works_once() -> None:
    row = folded(drafted(1.0), drafted(1.0, candidate=1)).as_row(10.0, timeline=False)
    assert row["busy"] == {"draft": [[10.6, 11.0]]}
    assert row["request_seconds"]["draft"] == pytest.approx(0.8)
    assert "timeline" not in row["chains"][0]


def test_replicas_are_told_apart() -> None:
    both = folded(drafted(1.0, cost={**COST, "replica": "a"}), drafted(1.0))
    assert set(both.busy) == {"draft/a", "draft"}


def test_tokens_that_left_the_chain_and_chains_without_a_vote_are_wasted() -> None:
    kept = folded(drafted(1.0, 5), drafted(2.0, 7), finished(2.0, tokens=7))
    assert kept.wasted == 5
    cut = folded(drafted(1.0, 5), finished(2.0, tokens=5, ending="cancelled"))
    assert cut.wasted == 5


def test_time_at_a_barrier_is_waiting_and_time_after_a_cut_is_not() -> None:
    began = {"event": "CandidateStarted", "at": 0.0, "candidate": 0}
    waited = folded(began, drafted(0.5), finished(3.0, 5)).as_row(0, timeline=False)
    assert waited["request_seconds"]["waiting"] == pytest.approx(2.5 + 0.1)
    cut = folded(began, drafted(0.5), finished(3.0, 5, ending="cancelled"))
    assert cut.as_row(0, timeline=False)["request_seconds"]["waiting"] == pytest.approx(0.1)


def test_decisions_and_verdicts_in_words_count_by_turn() -> None:
    decided = {"event": "Decided", "at": 1.0, "candidate": 0, "turn": 1}
    judged = {**drafted(2.0), "event": "StepJudged", "turn": 1, "accepted": False}
    found = folded(
        {**decided, "decision": {"taken_over": True}},
        {**decided, "decision": {"taken_over": False}},
        judged,
    )
    assert found.turns == {1: [3, 2]}
    assert found.working["target"] == pytest.approx(0.4)


def test_a_peek_is_a_decision_that_a_takeover_may_follow() -> None:
    """Of three peeks one handed over; a takeover without one was decided by the doubts so far."""
    found = folded(
        {**drafted(1.0), "event": "Peeked", "turn": 0},
        {**drafted(2.0), "event": "TakenOver", "turn": 0},
        {**drafted(3.0), "event": "Peeked", "turn": 1},
        {**drafted(3.0, candidate=1), "event": "Peeked", "turn": 1},
        {**drafted(4.0), "event": "TakenOver", "turn": 2},
    )
    assert found.turns == {0: [1, 1], 1: [2, 0], 2: [1, 1]}


async def test_a_whole_run_s_account_agrees_with_its_usage() -> None:
    """Takeovers that replace, chains that are cancelled: what is written is kept or wasted."""

    def writes(seen: str, request: Any) -> Line | str:
        return "step\n\n" if seen.count("step") < 2 else r"So \boxed{2}."

    method = {"on_rejection": "replace", "segment_stop": ["\n\n"], "candidates": 6}
    body = {
        "model": "atts",
        "messages": [{"role": "user", "content": "1+1?"}],
        "atts": {"takeover_rate": 0.5, "seed": 3},
    }
    account = Account()
    async for event in local_run(backend(writes, writes, method=method), body):
        account.add(event) if event["event"] != "Completed" else None
    tokens = event["completion"]["atts"]["tokens"]
    written = tokens["draft"]["generated"] + tokens["target"]["generated"]
    kept = sum(chain.kept for chain in account.chains.values() if chain.whole)
    rate = event["completion"]["atts"]["takeover_rate"]
    assert account.wasted == written - kept > 0
    assert sum(n for n, _ in account.turns.values()) == rate["decisions"]
    assert sum(taken for _, taken in account.turns.values()) == rate["rejected"] > 0
    assert len(account.chains) == 6
