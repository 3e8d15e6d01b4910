"""Whether two policies differ, in figures and in words."""

from __future__ import annotations

from typing import Any

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


def test_latency_and_tokens_are_compared_as_ratios_too() -> None:
    found = compare(rows("a", 60, latency=3.0) + rows("b", 60, latency=2.0), "a", "b")
    assert found["measures"]["latency"]["ratio"] == pytest.approx(1.5)
    assert found["measures"]["target_tokens"]["ratio"] == 1.0


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
