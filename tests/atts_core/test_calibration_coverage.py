"""Whom each coverage ranks a segment among."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.calibration.banks import Banks
from atts_core.calibration.coverage import COVERAGES
from atts_core.calibration.settings import CalibrationSettings, budget_rate
from atts_core.errors import BadInput

Arrival = tuple[str, int, float]


def banks_of(arrivals: list[Arrival], **settings: float) -> Banks:
    banks = Banks(CalibrationSettings.model_validate(settings))
    for question, turn, score in arrivals:
        group = banks.group(turn)
        banks.question(question).add(group, score)
        banks.add(group, score)
    return banks


def rank(banks: Banks, coverage: str, question: str, turn: int, score: float) -> tuple[float, ...]:
    how = COVERAGES[coverage]
    return tuple(how.rank(banks, banks.question(question), banks.group(turn), score)[:4])


ARRIVED = [("a", 0, -1.0), ("a", 0, -3.0), ("a", 1, -2.0), ("b", 0, -5.0), ("b", 1, -1.0)]


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        ("marginal", (3, 0, 5, 5)),
        ("turn", (1, 0, 3, 3)),
        ("conditional", (2, 0, 3, 3)),
    ],
)
def test_a_coverage_ranks_among_its_own_scores(coverage: str, expected: tuple[float, ...]) -> None:
    assert rank(banks_of(ARRIVED), coverage, "a", 0, -2.5) == expected


def test_adaptive_counts_siblings_fully_and_neighbours_up_to_a_weight() -> None:
    strangers = [("b", 0, -1.0)] * 10
    others = [("a", 1, -9.0)] * 4
    banks = banks_of([("a", 0, -1.0), ("a", 0, -3.0), *others, *strangers], neighbour_weight=2)
    higher, equal, total, size = rank(banks, "adaptive", "a", 0, -2.0)
    mean_weight = (2 + 4 * 0.5**2 + 10 * 0.2**2) / (2 + 2 + 2)
    assert higher == pytest.approx((1 + 2) / mean_weight)
    assert equal == 0
    assert total == pytest.approx((2 + 2 + 2) / mean_weight)
    assert size == 16


def test_adaptive_is_the_ordinary_rank_where_all_weights_are_equal() -> None:
    strangers = [("b", 0, -float(i)) for i in range(10)]
    assert rank(banks_of(strangers), "adaptive", "a", 0, -3.0) == pytest.approx((3, 1, 10, 10))


few = st.sampled_from([-1.0, -2.0, -3.0])
arrivals = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), few), max_size=40)


@given(arrivals, few, st.sampled_from([0.0, 0.5, 2.0, 100.0]), st.integers(1, 3))
def test_adaptive_equals_a_brute_force_weighted_count(
    arrived: list[Arrival], score: float, weight: float, span: int
) -> None:
    banks = banks_of(arrived, neighbour_weight=weight, turns_per_bank=span)
    siblings: list[float] = []
    others: list[float] = []
    strangers: list[float] = []
    for question, turn, s in arrived:
        same_turn = turn // span == 1 // span
        if question == "a":
            (siblings if same_turn else others).append(s)
        elif same_turn:
            strangers.append(s)
    higher = equal = total = squares = 0.0
    for group, share in (
        (siblings, 1.0),
        (others, min(1.0, weight / max(1, len(others)))),
        (strangers, min(1.0, weight / max(1, len(strangers)))),
    ):
        higher += share * sum(1 for s in group if s > score)
        equal += share * sum(1 for s in group if s == score)
        total += share * len(group)
        squares += share**2 * len(group)
    found = rank(banks, "adaptive", "a", 1, score)
    mean_weight = squares / total if total else 1.0
    assert [n * mean_weight for n in found[:3]] == pytest.approx([higher, equal, total])
    assert found[3] == len(siblings) + len(others) + len(strangers)


@given(arrivals, few, st.integers(1, 5))
def test_adaptive_stays_a_rank_when_windows_are_tiny(
    arrived: list[Arrival], score: float, window: int
) -> None:
    higher, equal, total, _ = rank(banks_of(arrived, window=window), "adaptive", "a", 1, score)
    assert 0 <= higher <= total
    assert 0 <= equal <= total


def test_turns_share_a_bank_where_the_settings_say_so() -> None:
    banks = banks_of(ARRIVED, turns_per_bank=2)
    assert rank(banks, "turn", "a", 1, -2.5)[2] == 5
    assert banks.name(banks.group(1)) == "turn:0-1"
    assert banks.name(banks.group(2)) == "turn:2-3"


def test_the_longest_unused_question_is_forgotten_first() -> None:
    banks = banks_of(ARRIVED, max_questions=2)
    banks.question("a")
    banks.question("c")
    assert list(banks.questions) == ["a", "c"]


def test_a_budget_is_a_rate() -> None:
    assert budget_rate(4, 16) == 0.25
    for budget in (0, 16, 20):
        with pytest.raises(BadInput, match="budget"):
            budget_rate(budget, 16)
