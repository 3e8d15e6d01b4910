"""Selectivity: a gate that only alternates must not look good."""

from __future__ import annotations

import pytest

from atts_core.calibration.selectivity import auroc, overlap


def group(*pairs: tuple[float, int]) -> list[tuple[float, bool]]:
    return [(nll, bool(taken)) for nll, taken in pairs]


def test_taking_the_worst_is_perfect() -> None:
    perfect = [group((4, 1), (3, 1), (2, 0), (1, 0), (0, 0))]
    assert overlap(perfect, 0.4) == 1.0
    assert auroc(perfect) == 1.0


def test_taking_the_best_is_the_opposite() -> None:
    worst = [group((4, 0), (3, 0), (2, 0), (1, 1), (0, 1))]
    assert overlap(worst, 0.4) == 0.0
    assert auroc(worst) == 0.0


def test_equal_scores_are_as_good_as_each_other() -> None:
    tied = [group((1, 0), (1, 1), (1, 0), (1, 1), (1, 0))]
    assert overlap(tied, 0.4) == 1.0
    assert auroc(tied) == 0.5


def test_taking_all_of_one_group_and_none_of_another_costs_overlap_not_order() -> None:
    uneven = [group((4, 1), (3, 1), (2, 1), (1, 1)), group((4, 0), (3, 0), (2, 0), (1, 0))]
    assert overlap(uneven, 0.5) == 0.5
    assert auroc(uneven) is None


def test_small_groups_say_nothing() -> None:
    assert overlap([group((2, 1), (1, 0), (0, 0))], 0.4) is None


def test_groups_weigh_by_what_a_barrier_would_pick() -> None:
    groups = [group((3, 1), (2, 0), (1, 0), (0, 0)), group(*[(float(i), 0) for i in range(8)])]
    assert overlap(groups, 0.25) == pytest.approx(1 / 3)
