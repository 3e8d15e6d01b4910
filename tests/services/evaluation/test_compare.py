"""Whether two policies differ, in figures and in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from atts_core.errors import BadInput
from services.evaluation.compare import compare
from tests.services.evaluation.rows import row


def rows(policy: str, right: int, of: int = 100, **fields: Any) -> list[dict[str, Any]]:
    return [
        row(policy, f"q{n}", right=n < right, chains_right=2 * (n < right), **fields)
        for n in range(of)
    ]


def words(found: dict[str, Any], measure: str) -> str:
    return str(found["words"][list(found["measures"]).index(measure)])


def test_a_difference_that_shows_is_said_with_its_interval() -> None:
    found = compare(rows("a", 90) + rows("b", 60), "a", "b")
    majority = found["measures"]["majority"]
    assert majority["mean"] == pytest.approx(0.3)
    assert majority["told"]
    assert majority["differing"] == 30
    assert "a has more than b: the interval leaves 0 out" in words(found, "majority")
    assert "a 0.900, b 0.600, difference +0.300" in words(found, "majority")


def test_a_difference_that_does_not_show_is_said_with_the_one_that_would() -> None:
    found = compare(rows("a", 61) + rows("b", 60), "a", "b")
    assert not found["measures"]["majority"]["told"]
    assert "No difference can be told. These questions would show one of 0.0" in words(
        found, "majority"
    )


def test_agreement_everywhere_bounds_the_difference() -> None:
    found = compare(rows("a", 60) + rows("b", 60), "a", "b")
    assert "They agree on every question" in words(found, "majority")
    assert "0.030" in words(found, "majority")


def test_few_questions_are_said_to_be_few() -> None:
    found = compare(rows("a", 9, 10) + rows("b", 2, 10), "a", "b")
    assert "fewer than 30 questions" in words(found, "majority")


def test_seconds_and_tokens_are_compared_as_ratios_with_an_interval_both_ways() -> None:
    found = compare(rows("a", 60, latency=3.0) + rows("b", 60, latency=2.0), "a", "b")
    for measure in ("latency", "latency_p95"):
        assert found["measures"][measure]["ratio"] == pytest.approx(1.5)
        assert found["measures"][measure]["ratio_interval"] == pytest.approx([1.5, 1.5])
        assert found["measures"][measure]["told"]
    assert found["measures"]["target_tokens"]["ratio"] == 1.0
    assert not found["measures"]["target_tokens"]["told"]
    said = words(found, "latency_p95")
    assert "a 3, b 2; a / b = 1.50 (95 % interval 1.50 to 1.50), b / a = 0.67 (" in said


def test_the_p95_is_that_of_all_seeds_and_its_interval_leaves_out_luck() -> None:
    """Latencies of `a` are twice those of `b`, but for the luck of each question."""
    rng = np.random.default_rng(0)
    found = compare(
        [
            row(policy, f"q{n}", seed, latency=scale * rng.lognormal())
            for policy, scale in (("a", 2.0), ("b", 1.0))
            for n in range(200)
            for seed in (1, 2, 3)
        ],
        "a",
        "b",
    )["measures"]["latency_p95"]
    low, high = found["ratio_interval"]
    assert 1.4 < low < 2.0 < high < 2.9


def test_the_set_s_seconds_are_compared_seed_by_seed() -> None:
    both = [
        row(policy, "q", seed, began=10.0 * seed, latency=latency)
        for policy, latencies in (("a", (1.0, 1.5, 2.0)), ("b", (2.0, 2.0, 2.0)))
        for seed, latency in enumerate(latencies, start=1)
    ]
    found = compare(both, "a", "b")
    measure = found["measures"]["seconds"]
    assert measure["ratio_by_seed"] == {"1": 0.5, "2": 0.75, "3": 1.0}
    assert measure["ratio"] == pytest.approx(0.75)
    assert "a 1.5, b 2 a seed; a / b = 0.75 (by seed 0.50 to 1.00), b / a = 1.33 (by" in words(
        found, "seconds"
    )
    alone = compare([r for r in both if r["seed"] == 1], "a", "b")
    assert "a / b = 0.50 (one seed: no spread)" in words(alone, "seconds")


def test_a_policy_without_target_tokens_has_a_ratio_of_nothing_and_is_none_s() -> None:
    none = {"draft": {"generated": 8}, "target": {"generated": 0}}
    both = rows("a", 60, tokens=none) + rows("b", 60)
    assert "a / b = 0.00 (95 % interval 0.00 to 0.00)." in words(
        compare(both, "a", "b"), "target_tokens"
    )
    turned = compare(both, "b", "a")["measures"]["target_tokens"]
    assert (turned["ratio"], turned["mean"]) == (None, 4)


def test_one_question_is_compared_and_says_nothing_of_others() -> None:
    found = compare([row("a", right=True), row("b", right=False)], "a", "b")
    assert found["measures"]["majority"]["detectable"] is None
    json.dumps(found, allow_nan=False)
    assert "One question says nothing of others." in words(found, "majority")


def test_only_questions_and_seeds_that_both_have_are_compared() -> None:
    extra = row("a", "q0", seed=2, right=False)
    found = compare([*rows("a", 60), extra, *rows("b", 60, 50)], "a", "b")
    assert found["measures"]["majority"]["questions"] == 50
    assert found["measures"]["majority"]["mean"] == 0


def test_two_unequal_seeds_of_a_question_count_once() -> None:
    both = rows("a", 60) + rows("a", 40, seed=2) + rows("b", 50) + rows("b", 50, seed=2)
    found = compare(both, "a", "b")["measures"]["majority"]
    assert (found["questions"], found["differing"]) == (100, 20)
    assert found["mean"] == pytest.approx(0)


def test_an_unknown_label_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="'c' has no results here; there are: a, b"):
        compare(rows("a", 1, 2) + rows("b", 1, 2), "a", "c")
