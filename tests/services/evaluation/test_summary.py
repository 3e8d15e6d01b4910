"""From rows to figures, on rows whose figures are known."""

from __future__ import annotations

import json

import pytest

from services.evaluation.summary import figures, summarise
from tests.services.evaluation.rows import row


def test_shares_are_means_over_questions_of_means_over_seeds() -> None:
    rows = [
        row(question="a", seed=1, chains_right=2, chains_ended=2),
        row(question="a", seed=2, chains_right=0, chains_ended=4, right=False),
        row(question="b", seed=1, chains_right=1, chains_ended=4),
    ]
    found = figures(rows, expected=4)
    assert found["pass_at_1"] == pytest.approx((0.5 + 0.25) / 2)
    assert found["majority"] == pytest.approx((0.5 + 1) / 2)
    assert found["pass_at_m"] == pytest.approx((0.5 + 1) / 2)
    assert found["unasked"] == 1
    low, high = found["majority_interval"]
    assert 0 <= low < 0.75 < high <= 1


def test_chains_that_were_cancelled_say_nothing_about_pass_at_1() -> None:
    rows = [row(question="a"), row(question="b", chains_ended=0, chains_right=0)]
    assert figures(rows, 2)["pass_at_1"] == 0.5


def test_a_question_that_failed_is_wrong_and_has_no_latency() -> None:
    failed = row(
        question="b", error="no memory", right=False, chains_ended=0, chains_right=0, tokens=None,
        latency=99.0,
    )  # fmt: skip
    found = figures([row(question="a"), failed], 2)
    assert (found["failed"], found["majority"], found["pass_at_1"]) == (1, 0.5, 0.25)
    assert found["latency_p95"] == 1.0
    assert found["target_tokens"] == 4


def test_the_set_s_seconds_are_those_with_a_question_in_flight() -> None:
    rows = [
        row(question="a", began=0.0, latency=2.0),
        row(question="b", began=1.0, latency=2.0),
        row(question="c", began=10.0, latency=1.0),
        row(question="d", began=0.5, latency=1.0, session="another, with a clock of its own"),
    ]
    assert figures(rows, 4)["seconds"] == pytest.approx(3 + 1 + 1)


def test_engine_seconds_count_an_engine_once_and_replicas_each() -> None:
    rows = [
        row(question="a", busy={"target/x": [[0.0, 2.0]], "target/y": [[0.0, 1.0]]}),
        row(question="b", busy={"target/x": [[1.0, 3.0]]}),
    ]
    found = figures(rows, 2)
    assert (found["target_engine_seconds"], found["draft_engine_seconds"]) == (4.0, 0.0)


def test_arithmetic_intensity_is_work_over_decoding_and_waiting() -> None:
    seconds = {"draft": 3.0, "target": 2.0, "scoring": 1.0, "waiting": 1.0}
    assert figures([row(request_seconds=seconds)], 1)["arithmetic_intensity"] == 5 / (4 + 1)


def test_the_realised_rate_is_over_all_decisions_and_by_turn() -> None:
    rows = [
        row(question="a", decisions=3, rejected=1, by_turn={"0": [2, 0], "10": [1, 1]}),
        row(question="b", decisions=1, rejected=1, by_turn={"0": [1, 1]}),
    ]
    found = figures(rows, 2)
    assert found["realised_takeover_rate"] == 0.5
    by_turn = [(t["turn"], t["rate"]) for t in found["takeover_rate_by_turn"]]
    assert by_turn == [(0, pytest.approx(1 / 3)), (10, 1.0)]


def test_each_seed_has_its_own_figures() -> None:
    rows = [row(seed=2, right=False), row(seed=1)]
    assert [(s["seed"], s["majority"]) for s in figures(rows, 2)["by_seed"]] == [(1, 1.0), (2, 0.0)]


def test_a_policy_without_rows_and_one_that_was_skipped_are_still_named() -> None:
    found = summarise([row("a")], ["a", "b", "c"], {"c": "no chat model"}, 1)
    assert list(found) == ["a", "b", "c"]
    assert found["c"] == {"skipped": "no chat model"}
    assert found["b"]["unasked"] == 1
    assert found["b"]["majority"] is None
    json.dumps(found, allow_nan=False)
