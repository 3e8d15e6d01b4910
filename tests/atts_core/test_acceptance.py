"""The gate decides, learns and shares."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from atts_core.acceptance import Decision, Gate
from atts_core.calibration.keys import Batch, PairKey, Record
from atts_core.calibration.settings import CalibrationSettings
from atts_core.errors import BadInput, ScoreMissing
from atts_core.types import Score

PAIR = PairKey(draft="d", target="t", template="p", score="mean-nll")
NO_FEEDBACK: dict[str, Any] = {"overall_step": 0.0, "turn_step": 0.0, "question_step": 0.0}


def gate_of(origin: str = "here", **settings: Any) -> Gate:
    return Gate(PAIR, CalibrationSettings.model_validate(settings), origin=origin)


def decide(gate: Gate, nll: float, **asked: Any) -> Decision:
    usual: dict[str, Any] = {"question": "q", "turn": 0, "coin": 0.5, "rate": 0.4}
    return gate.decide(Score(nll_sum=nll * 10, tokens=10), **(usual | asked))


def test_with_no_scores_the_decision_is_a_coin_with_the_rate() -> None:
    assert decide(gate_of(), 1.0, coin=0.61).taken_over
    assert not decide(gate_of(), 1.0, coin=0.59).taken_over


def test_a_poor_segment_is_taken_over_and_a_good_one_is_not() -> None:
    gate = gate_of(**NO_FEEDBACK)
    for i in range(20):
        decide(gate, 1.0 + i / 100, coin=(i * 0.618) % 1)
    assert decide(gate, 9.0).taken_over
    assert not decide(gate, 0.1).taken_over


def test_a_decision_says_what_it_rests_on() -> None:
    gate = gate_of(coverage="turn", **NO_FEEDBACK)
    for nll in (1.0, 2.0, 3.0, 2.0):
        decide(gate, nll, turn=3)
    decision = decide(gate, 2.0, turn=3, coin=0.25)
    assert decision == Decision(
        taken_over=False,
        p_value=(1 + 1 + 2) / 5,
        p_smoothed=(1 + 0.25 * 3) / 5,
        threshold=0.6,
        coin=0.25,
        coverage="turn",
        bank="d>t>p>mean-nll>turn:3",
        bank_size=4,
        cold=True,
    )
    assert not decide(gate_of(cold_below=0), 1.0).cold


def test_a_segment_is_ranked_before_it_is_learned() -> None:
    gate = gate_of(coverage="marginal")
    assert decide(gate, 1.0).bank_size == 0
    assert decide(gate, 1.0).bank_size == 1


def test_a_request_may_choose_its_own_rate_and_coverage() -> None:
    gate = gate_of(coverage="turn", **NO_FEEDBACK)
    decision = decide(gate, 1.0, rate=0.1, coverage="conditional")
    assert (decision.coverage, decision.threshold) == ("conditional", 0.9)
    assert decision.bank.endswith("question:q")


def test_feedback_belongs_to_a_rate_but_scores_are_shared() -> None:
    gate = gate_of(coverage="marginal")
    for _ in range(3):
        decide(gate, 1.0, rate=0.1, coin=0.999)
    other = decide(gate, 1.0, rate=0.5)
    assert other.threshold == 0.5
    assert other.bank_size == 3
    assert decide(gate, 1.0, rate=0.1).threshold > 0.9


def test_too_many_takeovers_raise_the_threshold_until_none_is_left() -> None:
    gate = gate_of(coverage="marginal")
    taken = [decide(gate, float(i), rate=0.4).taken_over for i in range(1, 400)]
    assert abs(sum(taken) - 0.4 * len(taken)) < 9


def test_without_steps_the_threshold_never_moves() -> None:
    gate = gate_of(**NO_FEEDBACK)
    assert {decide(gate, float(i), rate=0.4).threshold for i in range(1, 50)} == {0.6}


def test_published_compares_the_papers_p_value_with_a_fixed_bank() -> None:
    gate = gate_of(coverage="published")
    with pytest.raises(BadInput, match="calibration"):
        decide(gate, 1.0)
    gate.fix([-1.0, -2.0, -3.0, -4.0])
    decisions = [decide(gate, 2.5, rate=0.4) for _ in range(30)]
    assert {d.p_value for d in decisions} == {0.6}
    assert {d.threshold for d in decisions} == {0.6}
    assert not any(d.taken_over for d in decisions), "the comparison is strict"
    assert decide(gate, 3.5).taken_over
    assert decisions[-1].bank_size == 4


def test_warming_fills_a_questions_bank_before_its_first_decision() -> None:
    gate = gate_of(coverage="conditional")
    gate.warm("q", [Score(nll, 1) for nll in (1.0, 2.0, 3.0)])
    assert decide(gate, 2.5).bank_size == 3
    assert len(gate.pending().records) == 4


def test_an_ended_question_leaves_only_its_scores() -> None:
    gate = gate_of(coverage="conditional")
    decide(gate, 1.0)
    gate.forget("q")
    gate.forget("never asked")
    assert gate.state()["questions"] == 0
    assert decide(gate, 1.0).bank_size == 0
    assert decide(gate, 1.0, coverage="marginal").bank_size == 2


@pytest.mark.parametrize("nll", [math.nan, math.inf, -math.inf])
def test_no_score_no_guess(nll: float) -> None:
    gate = gate_of()
    with pytest.raises(ScoreMissing):
        decide(gate, nll)
    assert gate.state()["decisions"] == 0
    assert not gate.pending().records


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_outside_0_and_1_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="takeover_rate"):
        decide(gate_of(), 1.0, rate=rate)


def test_an_unknown_coverage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="adaptive, turn, marginal, conditional, published"):
        decide(gate_of(), 1.0, coverage="global")


def test_scores_reach_another_gate_exactly_once() -> None:
    one, two = gate_of("one"), gate_of("two")
    for i in range(5):
        decide(one, 1.0 + i, turn=i % 2)
    batch = one.pending()
    assert two.merge(batch) == 5
    assert two.merge(batch) == 0
    assert one.merge(batch) == 0, "its own scores come back from the store"
    assert two.seen == {"one": 5}
    assert decide(two, 1.0, turn=1, coverage="turn").bank_size == 2


def test_what_is_not_committed_is_uploaded_again() -> None:
    gate = gate_of()
    for i in range(5):
        decide(gate, 1.0 + i)
    first = gate.pending(2)
    assert [r.sequence for r in first.records] == [1, 2]
    assert gate.pending(2) == first
    gate.committed(2)
    assert [r.sequence for r in gate.pending().records] == [3, 4, 5]


def test_merged_scores_are_not_uploaded_again() -> None:
    gate = gate_of()
    gate.merge(Batch(PAIR, (Record("other", 1, 0, -1.0),)))
    assert not gate.pending().records


def test_a_full_outbox_drops_the_oldest_and_counts_them() -> None:
    gate = gate_of(max_outbox=3)
    for i in range(5):
        decide(gate, 1.0 + i)
    assert [r.sequence for r in gate.pending().records] == [3, 4, 5]
    assert gate.state()["dropped"] == 2


def test_another_pairs_scores_are_refused_with_both_keys() -> None:
    with pytest.raises(BadInput) as raised:
        gate_of().merge(Batch(replace(PAIR, target="t2"), ()))
    assert "d>t>p>mean-nll" in raised.value.message
    assert "d>t2>p>mean-nll" in raised.value.message


def test_reset_forgets_scores_and_rates() -> None:
    gate = gate_of()
    for i in range(5):
        decide(gate, 1.0 + i, coin=0.99)
    gate.reset()
    assert decide(gate, 1.0).bank_size == 0
    assert gate.state()["decisions"] == 1


def test_the_state_is_plain_json() -> None:
    gate = gate_of()
    for i in range(300):
        decide(
            gate,
            1.0 + (i * 0.382) % 1,
            turn=i % 2,
            question=str(i // 10),
            coin=(i * 0.618) % 1,
        )
    state = json.loads(json.dumps(gate.state()))
    assert [bank["size"] for bank in state["banks"]] == [300, 150, 150]
    assert state["banks"][1]["bank"] == "d>t>p>mean-nll>turn:0"
    assert state["rates"]["overall"]["rate"] == pytest.approx(0.4, abs=0.03)
    assert state["rates"]["window"]["n"] == 200
    assert state["drift"]["questions"] == 30


def test_drifting_scores_and_rates_raise_alarms_once() -> None:
    gate = gate_of(coverage="marginal", **NO_FEEDBACK)
    for i in range(600):
        nll = 1.0 + (i * 0.618) % 1 + (5.0 + i if i >= 400 else 0.0)
        decide(gate, nll, question=str(i), coin=(i * 0.7548) % 1)
    kinds = {alarm.kind for alarm in gate.alarms()}
    assert kinds == {"scores", "rate"}
    assert gate.alarms() == []
    assert gate.state()["drift"]["alarms"] >= 2
