"""Feedback pulls a rate back, whatever the scores do."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.calibration.feedback import STEADY, Ledgers, Tally


def test_a_small_excess_hardly_moves_the_threshold_a_large_one_fully() -> None:
    tally = Tally()
    for _ in range(2):
        tally.add(True, 0.5)
    assert tally.correction(0.1) == pytest.approx(0.01)
    for _ in range(18):
        tally.add(True, 0.5)
    assert tally.correction(0.1) == pytest.approx(1.0)


def test_too_few_takeovers_lower_the_threshold() -> None:
    tally = Tally()
    tally.add(False, 0.4)
    assert tally.correction(0.1) == pytest.approx(-0.0016)


def test_the_settling_step_falls_once_the_group_is_large() -> None:
    tally = Tally()
    for i in range(4 * STEADY - 1):
        tally.add(i % 2 == 0, 0.4)
    assert tally.settling_correction(0.1) == pytest.approx(tally.correction(0.1) / 4)


@given(
    rate=st.sampled_from([0.05, 0.2, 0.4, 0.8]),
    step=st.sampled_from([0.05, 0.1, 0.3]),
    hostile=st.lists(st.sampled_from([0.0, 0.3, 0.7, 1.0]), min_size=1, max_size=20),
    seed=st.integers(0, 100),
)
def test_the_excess_is_bounded_whatever_the_p_values_are(
    rate: float, step: float, hostile: list[float], seed: int
) -> None:
    draw = random.Random(seed)
    tally = Tally()
    bound = 1 + math.sqrt(max(rate, 1 - rate)) / step
    for i in range(600):
        p = hostile[i * len(hostile) // 600] if draw.random() < 0.9 else draw.random()
        tally.add(p > 1 - rate + tally.correction(step), rate)
        assert abs(tally.taken - tally.promised) <= bound


def test_each_rate_and_coverage_has_its_own_ledger() -> None:
    ledgers = Ledgers(most=2)
    first = ledgers.of(0.4, "adaptive")
    assert ledgers.of(0.4, "adaptive") is first
    assert ledgers.of(0.4, "turn") is not first
    ledgers.of(0.4, "adaptive")
    ledgers.of(0.2, "turn")
    assert ledgers.of(0.4, "adaptive") is first
