"""The theorems, by simulation: quick here, at full size with `-m slow`."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atts_core.acceptance import Gate
from atts_core.calibration.keys import PairKey
from atts_core.calibration.settings import CalibrationSettings
from atts_core.calibration.synthetic import RECIPES, synthetic
from atts_core.calibration.traces import Trace, read_trace
from atts_core.replay import Order, arrival, replay, report
from atts_core.types import Score

RATES = [0.05, 0.2, 0.4, 0.8]
NO_FEEDBACK: dict[str, Any] = {"overall_step": 0.0, "turn_step": 0.0, "question_step": 0.0}

Draw = Callable[[random.Random], float]
SCORES: dict[str, Draw] = {
    "continuous": lambda draw: draw.expovariate(1.0),
    "ties": lambda draw: float(draw.randrange(4)),
}


def gate_of(**settings: Any) -> Gate:
    return Gate(PairKey("d", "t", "p", "mean-nll"), CalibrationSettings.model_validate(settings))


def three_sigma(rate: float, draws: int) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / draws)


def share_taken_over(rate: float, bank: int, draws: int, scores: Draw) -> float:
    """Each draw ranks one score among `bank` others of the same make, all of them fresh."""
    gate, draw, taken = gate_of(coverage="conditional", **NO_FEEDBACK), random.Random(bank), 0
    for _ in range(draws):
        gate.warm("q", [Score(scores(draw), 1) for _ in range(bank)])
        taken += gate.decide(
            Score(scores(draw), 1), question="q", turn=0, coin=draw.random(), rate=rate
        ).taken_over
        gate.forget("q")
    return taken / draws


def share_taken_over_by_window(rate: float, bank: int, draws: int, scores: Draw) -> float:
    """Each draw ranks one score among the `bank` scores before it."""
    gate, draw = gate_of(coverage="marginal", window=bank, **NO_FEEDBACK), random.Random(bank)
    gate.warm("before", [Score(scores(draw), 1) for _ in range(bank)])
    taken = sum(
        gate.decide(
            Score(scores(draw), 1), question="q", turn=0, coin=draw.random(), rate=rate
        ).taken_over
        for _ in range(draws)
    )
    return taken / draws


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bank", [0, 1, 10])
def test_the_rate_is_exact_under_exchangeability(bank: int, rate: float, scores: str) -> None:
    found = share_taken_over(rate, bank, 2_000, SCORES[scores])
    assert abs(found - rate) <= three_sigma(rate, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bank", [0, 1, 10, 1_000])
def test_the_rate_is_exact_under_exchangeability_at_full_size(
    bank: int, rate: float, scores: str
) -> None:
    share = share_taken_over_by_window if bank == 1_000 else share_taken_over
    found = share(rate, bank, 100_000, SCORES[scores])
    assert abs(found - rate) <= three_sigma(rate, 100_000)


def adaptive_p_values(draws: int) -> list[float]:
    """Smoothed p-values of scores that are all alike: 5 turns of 8 candidates a question."""
    gate, draw = gate_of(**NO_FEEDBACK), random.Random(5)
    return [
        gate.decide(
            Score(draw.expovariate(1.0), 1),
            question=str(i // 40),
            turn=i // 8 % 5,
            coin=draw.random(),
            rate=0.4,
        ).p_smoothed
        for i in range(draws)
    ]


@pytest.mark.parametrize("draws", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_weighted_p_values_are_nearly_uniform_under_exchangeability(draws: int) -> None:
    found = adaptive_p_values(draws)
    for level in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95):
        share = sum(p <= level for p in found) / draws
        assert abs(share - level) <= 0.02 + three_sigma(level, draws)


def recovery(shift: float, coverage: str, rate: float, seed: int) -> float:
    """The worst rate of 200 decisions that begin 200 or more after all scores shifted."""
    gate, draw = gate_of(coverage=coverage), random.Random(seed)
    taken = []
    for i in range(2_000):
        nll = draw.expovariate(1.0) + 10 + (shift if i >= 1_000 else 0.0)
        taken.append(
            gate.decide(
                Score(nll, 1),
                question=str(i // 48),
                turn=i // 16 % 3,
                coin=draw.random(),
                rate=rate,
            ).taken_over
        )
    return max(abs(sum(taken[i : i + 200]) / 200 - rate) for i in range(1_200, 1_801))


@pytest.mark.parametrize("coverage", ["adaptive", "turn", "marginal", "conditional"])
@pytest.mark.parametrize("shift", [5.0, -5.0])
def test_after_a_shift_the_rate_is_back_within_200_decisions(coverage: str, shift: float) -> None:
    assert recovery(shift, coverage, 0.4, seed=1) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("coverage", ["adaptive", "turn", "marginal", "conditional"])
@pytest.mark.parametrize("rate", RATES)
def test_after_any_shift_the_rate_is_back_within_200_decisions(coverage: str, rate: float) -> None:
    for shift in (1.0, 5.0, -1.0, -5.0):
        for seed in range(5):
            assert recovery(shift, coverage, rate, seed) <= 0.05


def assert_every_rate_holds(trace: Trace, order: Order, rate: float, seed: int) -> dict[str, Any]:
    steps = arrival(trace, order, seed)
    taken, _ = replay(steps, rate=rate, settings=CalibrationSettings(), seed=seed)
    found = report(steps, taken, rate)
    assert abs(found["overall"] - rate) <= 0.01
    assert abs(found["first_100"] - rate) <= 0.05
    assert (found["turn_max_abs_deviation"] or 0) <= 0.035
    assert (found["question_max_abs_deviation"] or 0) <= 0.08
    assert (found["window_max_abs_deviation"] or 0) <= 0.05
    return found


@pytest.mark.parametrize("order", ["question", "interleaved"])
@pytest.mark.parametrize("recipe", ["unequal", "falling", "grainy"])
def test_adaptive_holds_overall_turn_question_and_window_at_once(recipe: str, order: Order) -> None:
    assert_every_rate_holds(synthetic(RECIPES[recipe], 1), order, 0.4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["question", "interleaved"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_adaptive_holds_every_rate_on_every_make_of_trace(recipe: str, order: Order) -> None:
    for seed in range(3):
        trace = synthetic(RECIPES[recipe], seed)
        for rate in (0.1, 0.2, 0.4, 0.6):
            assert_every_rate_holds(trace, order, rate, seed)


@pytest.mark.parametrize("order", ["question", "interleaved"])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4, 0.6])
def test_adaptive_holds_and_selects_on_a_recorded_run(order: Order, rate: float) -> None:
    path = os.environ.get("ATTS_TRACE")
    if not path:
        pytest.skip("set ATTS_TRACE to a recorded run (.jsonl.gz) to replay it here")
    found = assert_every_rate_holds(read_trace(Path(path)), order, rate, seed=0)
    if rate == 0.4:
        assert found["overlap"] >= 0.82
        assert found["auroc"] >= 0.94
