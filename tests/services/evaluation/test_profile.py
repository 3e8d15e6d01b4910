"""How long each engine computed for a set, from what its clocks showed."""

from __future__ import annotations

from typing import Any

import pytest

from services.evaluation.profile import counted, profile
from services.evaluation.summary import summarise
from services.evaluation.table import UNTOLD, bounds, markdown
from tests.services.evaluation.rows import counts, row


def clocked(begin: float, end: float, **fields: Any) -> dict[str, Any]:
    """A question between two readings of a target that steps all the time, and of a draft half."""
    readings = {
        "processes": {"cpu_seconds": [2 * begin, 2 * end]},
        "draft": counts(step_seconds=[begin / 2, end / 2], steps=[begin * 10, end * 10],
                        batched_sequences=[begin * 40, end * 40]),
        "target": counts(step_seconds=[begin, end], steps=[begin * 5, end * 5],
                         batched_sequences=[begin * 5, end * 5]),
    }  # fmt: skip
    return row(readings=readings, began=begin, latency=end - begin, **fields)


def test_an_engine_s_share_is_that_of_the_set_however_many_questions_wait_for_it() -> None:
    together = [clocked(0, 6, question="a"), clocked(1, 7, question="b"), clocked(2, 10)]
    found = profile(together, 10.0)
    assert found["target_busy"] == pytest.approx(1.0)
    assert found["draft_busy"] == pytest.approx(0.5)
    assert found["cores"] == pytest.approx(2.0)
    assert (found["draft_steps"], found["draft_step_ms"]) == (100, pytest.approx(50))
    assert found["draft_step_sequences"] == pytest.approx(4.0)


def test_what_passed_between_two_seeds_or_sessions_is_nobody_s() -> None:
    apart = [
        clocked(0, 2, seed=1),
        clocked(50, 52, seed=2),
        clocked(0, 3, seed=2, question="b", session="resumed"),
    ]
    assert counted(apart)["target"]["step_seconds"] == pytest.approx(2 + 2 + 3)
    (figures,) = summarise(apart, ["atts"], {}, 3).values()
    assert figures["target_busy"] == pytest.approx(1.0)
    assert [one["target_busy"] for one in figures["by_seed"]] == pytest.approx([1.0, 1.0])


def test_where_no_clock_can_be_read_the_tables_say_so() -> None:
    found = summarise([row(readings={})], ["atts"], {}, 1)
    assert found["atts"]["target_busy"] is None
    assert bounds(found).endswith(UNTOLD)
    assert "| – | – |" in markdown(found)


def test_the_table_of_bounds_has_a_line_a_policy() -> None:
    lines = bounds(summarise([clocked(0, 10)], ["atts", "none"], {"none": "no"}, 1)).splitlines()
    assert lines[2] == (
        "| atts | 10.0 | 0.50 | 1.00 | 100 | 50.00 | 4.0 | 50 | 200.00 | 1.0 | 2.00 |"
    )
    assert not any(line.startswith("| none") for line in lines)
