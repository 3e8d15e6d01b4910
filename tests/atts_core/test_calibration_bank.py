"""The bank is a sliding window with ranks: equal to brute force, whatever arrives."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.calibration.bank import Bank
from atts_core.calibration.banks import counts
from atts_core.calibration.ordered import Ordered

few_values = st.integers(-3, 3).map(float)
scores = st.lists(st.floats(-50, 0, allow_nan=False) | few_values, max_size=60)
windows = st.integers(1, 20)


def filled(window: int, arrived: list[float]) -> Bank:
    bank = Bank(window)
    for score in arrived:
        bank.add(score)
    return bank


@given(windows, scores, st.floats(-60, 10) | few_values)
def test_counts_equal_brute_force_over_the_window(
    window: int, arrived: list[float], score: float
) -> None:
    held = arrived[-window:]
    higher = sum(1 for s in held if s > score)
    equal = sum(1 for s in held if s == score)
    assert filled(window, arrived).counts(score) == (higher, equal)
    assert counts(sorted(held), score) == (higher, equal)


@given(windows, scores)
def test_the_oldest_leaves_when_the_window_is_full(window: int, arrived: list[float]) -> None:
    bank = filled(window, arrived)
    assert len(bank) == min(window, len(arrived))
    assert bank.recent(window) == arrived[-window:]


@given(windows, scores.filter(len))
def test_every_duplicate_counts(window: int, arrived: list[float]) -> None:
    bank = filled(window, arrived)
    bank.add(arrived[-1])
    held = [*arrived, arrived[-1]][-window:]
    assert bank.counts(arrived[-1])[1] == held.count(arrived[-1])


@given(windows, scores.filter(len), st.floats(0, 1))
def test_a_quantile_is_a_held_score_of_that_rank(
    window: int, arrived: list[float], share: float
) -> None:
    held = sorted(arrived[-window:])
    assert (
        filled(window, arrived).quantile(share) == held[min(int(share * len(held)), len(held) - 1)]
    )


@given(windows, st.permutations([-1.0, -2.0, -2.0, -3.0, -4.5]))
def test_ranks_do_not_depend_on_the_order_of_arrival(window: int, arrived: list[float]) -> None:
    bank = filled(max(window, 5), arrived)
    assert [bank.counts(s) for s in (-1.0, -2.0, -5.0)] == [(0, 1), (1, 2), (5, 0)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(bad: float) -> None:
    bank = filled(5, [-1.0])
    with pytest.raises(ValueError, match="finite"):
        bank.add(bad)
    assert len(bank) == 1
    assert bank.counts(-2.0) == (1, 0)


@given(
    chunk=st.integers(1, 6),
    acts=st.lists(st.tuples(st.booleans(), few_values | st.floats(-5, 5)), max_size=80),
    score=few_values,
)
def test_an_ordered_list_equals_a_sorted_one_however_its_chunks_split(
    chunk: int, acts: list[tuple[bool, float]], score: float
) -> None:
    ordered, plain = Ordered(chunk), list[float]()
    for removes, value in acts:
        if removes and plain:
            value = plain.pop(int(abs(value)) % len(plain))
            ordered.remove(value)
        else:
            ordered.add(value)
            plain.append(value)
        plain.sort()
        assert [ordered[i] for i in range(len(ordered))] == plain
        for asked in (score, value):
            lower = sum(1 for v in plain if v < asked)
            assert ordered.counts(asked) == (lower, plain.count(asked))
    with pytest.raises(IndexError):
        ordered[len(plain)]


def test_a_large_bank_of_one_value_ranks_right() -> None:
    bank = filled(10_000, [-1.0] * 9_000 + [-2.0] * 3_000)
    assert bank.counts(-1.0) == (0, 7_000)
    assert bank.counts(-2.0) == (7_000, 3_000)
    assert bank.counts(-1.5) == (7_000, 0)
