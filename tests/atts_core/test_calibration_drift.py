"""The drift test stays quiet where nothing drifts and speaks where something does."""

from __future__ import annotations

import random

import pytest

from atts_core.calibration.drift import WINDOW, Alarm, RateLog, ScoreDrift


def alarms(drift: ScoreDrift, draw: random.Random, scores: list[float]) -> list[int]:
    return [i for i, s in enumerate(scores) if drift.observe(s, draw.random()) is not None]


def false_alarms(runs: int) -> int:
    total = 0
    for seed in range(runs):
        draw = random.Random(seed)
        drift = ScoreDrift(false_alarm=0.05, period=300)
        total += bool(alarms(drift, draw, [draw.gauss(0, 1) for _ in range(300)]))
    return total


def test_false_alarms_are_as_rare_as_stated() -> None:
    assert false_alarms(100) <= 5 + 3 * (100 * 0.05 * 0.95) ** 0.5


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated_at_full_size() -> None:
    assert false_alarms(2000) <= 100 + 3 * (2000 * 0.05 * 0.95) ** 0.5


def test_a_shift_raises_one_alarm_soon_and_becomes_the_new_reference() -> None:
    draw = random.Random(3)
    drift = ScoreDrift(false_alarm=0.01, period=1000)
    before = [draw.gauss(0, 1) for _ in range(300)]
    after = [draw.gauss(3, 1) for _ in range(400)]
    found = alarms(drift, draw, before + after)
    assert len(found) == 1
    assert 300 < found[0] < 360


def test_the_reference_outlives_a_period() -> None:
    draw = random.Random(4)
    drift = ScoreDrift(false_alarm=0.01, period=100)
    assert not alarms(drift, draw, [draw.gauss(0, 1) for _ in range(200)])
    assert drift.martingale == pytest.approx(1.0)
    assert alarms(drift, draw, [draw.gauss(3, 1) for _ in range(60)])


def test_a_full_block_off_its_rate_is_reported() -> None:
    log = RateLog(tolerance=0.15)
    found = [log.observe(i % 3, i % 2 == 0, 0.2) for i in range(WINDOW)]
    assert found[:-1] == [None] * (WINDOW - 1)
    assert found[-1] == pytest.approx(0.3)
    state = log.state()
    assert state["overall"] == pytest.approx({"n": 200, "rate": 0.5, "nominal": 0.2})
    assert state["window"] == pytest.approx({"n": 200, "rate": 0.5, "nominal": 0.2})
    assert [row["turn"] for row in state["by_turn"]] == [0, 1, 2]


def test_an_alarm_reads_as_a_sentence() -> None:
    assert "limit 100" in str(Alarm("scores", 7, 123.0, 100.0))
    assert "off by -0.200" in str(Alarm("rate", 400, -0.2, 0.15))
