"""Intervals and differences against known cases, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from services.evaluation.statistics import paired, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_of_zeros_and_ones_is_the_textbook_s(
    right: int, n: int, low: float, high: float
) -> None:
    assert wilson([1.0] * right + [0.0] * (n - right)) == pytest.approx((low, high), abs=6e-5)


def test_values_between_zero_and_one_are_narrower_than_zeros_and_ones() -> None:
    halves, coins = [0.5] * 50 + [0.4, 0.6] * 25, [0.0, 1.0] * 50
    narrow, wide = wilson(halves), wilson(coins)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


def test_seeds_that_only_repeat_each_other_narrow_nothing() -> None:
    """Three equal seeds are averaged by question: still as many questions."""
    once = [1.0] * 30 + [0.0] * 10
    thrice = [sum([value] * 3) / 3 for value in once]
    assert wilson(thrice) == pytest.approx(wilson(once))


def test_no_values_have_no_interval() -> None:
    assert all(np.isnan(wilson([])))


def test_a_clear_difference_is_told() -> None:
    found = paired([1.0] * 60 + [0.0] * 40, [1.0] * 30 + [0.0] * 70)
    assert found.mean == pytest.approx(0.3)
    assert found.told
    assert found.p_value < 0.001
    assert found.differing == 30


def test_the_interval_is_the_normal_one_where_there_are_many_questions() -> None:
    gaps = np.random.default_rng(1).normal(0.1, 1.0, 2000)
    found = paired(gaps, np.zeros(2000))
    half = 1.96 * gaps.std(ddof=1) / np.sqrt(2000)
    assert found.low == pytest.approx(gaps.mean() - half, abs=0.004)
    assert found.high == pytest.approx(gaps.mean() + half, abs=0.004)
    assert found.detectable == pytest.approx(2.8016 * gaps.std(ddof=1) / np.sqrt(2000), rel=1e-3)


def test_the_same_seed_gives_the_same_interval() -> None:
    one, other = [0.0, 1.0, 1.0, 1.0] * 10, [0.0, 0.0, 1.0, 1.0] * 10
    assert paired(one, other, seed=4) == paired(one, other, seed=4)
    assert paired(one, other, seed=4) != paired(one, other, seed=5)


def test_policies_that_agree_everywhere_are_bounded_by_the_rule_of_three() -> None:
    found = paired([1.0] * 60, [1.0] * 60)
    assert (found.low, found.high, found.detectable) == (-0.05, 0.05, 0.05)
    assert not found.told


def test_agreement_bounds_nothing_but_shares() -> None:
    found = paired([1000.0] * 60, [1000.0] * 60, shares=False)
    assert (found.low, found.high, found.detectable) == (0, 0, None)


@pytest.mark.slow
def test_wilson_covers_the_truth_of_questions_with_several_seeds() -> None:
    """Each question has a difficulty of its own, three seeds are drawn from it."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        difficulty = rng.beta(4, 1, 100)
        low, high = wilson(rng.binomial(3, difficulty) / 3)
        covered += low <= 0.8 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_the_paired_bootstrap_covers_the_truth_and_rarely_sees_what_is_not_there() -> None:
    rng = np.random.default_rng(0)
    covered = false_alarms = 0
    for trial in range(1000):
        # 20 of 100 questions differ, 12 for the better: a true difference of 0.04.
        gaps = rng.choice([1.0, -1.0, 0.0], 100, p=[0.12, 0.08, 0.80])
        found = paired(gaps, np.zeros(100), seed=trial, resamples=1000)
        covered += found.low <= 0.04 <= found.high
        even = paired(rng.choice([1.0, -1.0, 0.0], 100, p=[0.1, 0.1, 0.8]), np.zeros(100),
                      seed=trial, resamples=1000)  # fmt: skip
        false_alarms += even.told
    assert covered / 1000 == pytest.approx(0.95, abs=0.025)
    assert false_alarms / 1000 == pytest.approx(0.05, abs=0.025)


@pytest.mark.slow
def test_a_difference_as_large_as_the_detectable_one_is_told_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    detectable = paired(rng.normal(0, 1, 20_000), np.zeros(20_000)).detectable * np.sqrt(200)
    told = sum(
        paired(rng.normal(detectable, 1, 100), np.zeros(100), seed=t, resamples=1000).told
        for t in range(1000)
    )
    assert told / 1000 == pytest.approx(0.80, abs=0.04)
