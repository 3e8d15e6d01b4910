"""A recorded run is decided again: reproducibly, in arrival order, with only the past."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner, Result

from atts_core.calibration.settings import CalibrationSettings, CoverageName
from atts_core.calibration.synthetic import RECIPES, Recipe, synthetic
from atts_core.calibration.traces import (
    Trace,
    TracedCandidate,
    TracedTurn,
    TraceWriter,
    as_record,
)
from atts_core.errors import BadInput
from atts_core.replay import Order, Step, arrival, replay, report
from atts_core.types import Score
from services.commands.replay import replay as command_replay

TRACE = synthetic(Recipe(questions=12, candidates=8, turns=6), 1)
SETTINGS = CalibrationSettings()


def chain(question: str, candidate: int, *turns: TracedTurn) -> TracedCandidate:
    return TracedCandidate(question, candidate, None, 0.0, turns)


def test_question_order_ends_one_question_before_the_next() -> None:
    steps = arrival(TRACE, "question", seed=0)
    places = [int(step.question) for step in steps]
    assert places == sorted(places)
    first = [step.turn for step in steps if step.question == "0"]
    assert first == sorted(first)


def test_interleaved_order_runs_all_questions_at_once() -> None:
    steps = arrival(TRACE, "interleaved", seed=0)
    assert [s.turn for s in steps] == sorted(s.turn for s in steps)
    assert len({step.question for step in steps[:40]}) > 6


@pytest.mark.parametrize("order", get_args(Order))
def test_every_scored_segment_arrives_once(order: Order) -> None:
    trace = Trace(
        (
            chain("b", 0, TracedTurn(0, "ab", 2.0, "xyz"), TracedTurn(1, "c", None, None)),
            chain("a", 0, TracedTurn(0, "d", 3.0, None)),
        ),
        cut=False,
    )
    steps = arrival(trace, order, seed=1)
    assert sorted((s.question, s.turn, s.draft, s.target) for s in steps) == [
        ("a", 0, 1, None),
        ("b", 0, 2, 3),
    ]
    assert {s.score.nll for s in steps} == {math.log(2), math.log(3)}


@pytest.mark.parametrize("coverage", [c for c in get_args(CoverageName) if c != "published"])
def test_equal_seeds_decide_equally(coverage: CoverageName) -> None:
    settings = CalibrationSettings(coverage=coverage)
    steps = arrival(TRACE, "question", seed=3)
    first, _ = replay(steps, rate=0.4, settings=settings, seed=3)
    again, _ = replay(steps, rate=0.4, settings=settings, seed=3)
    other, _ = replay(steps, rate=0.4, settings=settings, seed=4)
    assert first == again != other


def test_no_decision_knows_the_future() -> None:
    steps = arrival(TRACE, "question", seed=0)
    half = len(steps) // 2
    changed = [
        replace(step, score=Score(nll_sum=9.0, tokens=1)) if i >= half else step
        for i, step in enumerate(steps)
    ]
    whole, _ = replay(steps, rate=0.4, settings=SETTINGS)
    other, _ = replay(changed, rate=0.4, settings=SETTINGS)
    assert whole[:half] == other[:half]
    assert whole != other


def test_published_decides_by_a_fixed_bank() -> None:
    steps = arrival(TRACE, "question", seed=0)
    settings = CalibrationSettings(coverage="published")
    bank = sorted(-step.score.nll for step in steps[:50])
    taken, _ = replay(steps, rate=0.4, settings=settings, calibration=bank)
    expected = [
        (1 + sum(1 for s in bank if s >= step.score.conformity)) / 51 > 0.6 for step in steps
    ]
    assert taken == expected


def test_a_calibration_warms_the_other_coverages() -> None:
    steps = arrival(TRACE, "question", seed=0)[:1]
    for coverage in ("marginal", "turn", "adaptive"):
        settings = CalibrationSettings(coverage=coverage)
        best = [replay(steps, rate=0.4, settings=settings, calibration=[5.0] * 100)[0]]
        worst = [replay(steps, rate=0.4, settings=settings, calibration=[-50.0] * 100)[0]]
        assert (best, worst) != ([[False]], [[True]])


def test_the_report_adds_up() -> None:
    steps = [Step(str(i // 50), i % 2, Score(1.0 + i % 7, 1), 10, 5) for i in range(400)]
    taken = [i % 4 == 0 for i in range(400)]
    found = report(steps, taken, 0.2)
    assert found["decisions"] == 400
    assert found["overall"] == 0.25
    assert found["first_100"] == 0.25
    assert found["by_turn"] == [
        {"turn": 0, "n": 200, "rate": 0.5},
        {"turn": 1, "n": 200, "rate": 0.0},
    ]
    assert found["turn_max_abs_deviation"] == pytest.approx(0.3)
    assert found["question_max_abs_deviation"] == pytest.approx(0.06)
    assert found["window_max_abs_deviation"] == pytest.approx(0.05)
    assert found["by_window"] == [
        {"from": 0, "n": 200, "rate": 0.25},
        {"from": 200, "n": 200, "rate": 0.25},
    ]
    assert found["target_character_share"] == pytest.approx(500 / 4500)


def test_a_short_trace_is_reported_without_what_it_cannot_tell() -> None:
    steps = arrival(Trace((chain("a", 0, TracedTurn(0, "", 2.0, None)),), cut=False), "question", 0)
    found = report(steps, [True], 0.4)
    assert found["overall"] == 1.0
    for name in ("turn", "question", "window", "sliding_window"):
        assert found[f"{name}_max_abs_deviation"] is None
    assert (found["overlap"], found["auroc"], found["target_character_share"]) == (None, None, None)


def test_adaptive_is_far_more_even_than_a_fixed_bank_and_nearly_as_selective() -> None:
    steps = arrival(synthetic(RECIPES["unequal"], 2), "question", seed=0)
    taken, _ = replay(steps, rate=0.4, settings=SETTINGS)
    ours = report(steps, taken, 0.4)
    fixed, _ = replay(
        steps,
        rate=0.4,
        settings=CalibrationSettings(coverage="published"),
        calibration=[step.score.conformity for step in steps if step.turn == 0],
    )
    published = report(steps, fixed, 0.4)
    assert ours["question_max_abs_deviation"] < 0.08 < published["question_max_abs_deviation"]
    assert ours["window_max_abs_deviation"] < 0.05 < published["window_max_abs_deviation"]
    assert ours["overlap"] > published["overlap"]
    assert ours["auroc"] > 0.9


# -------------------------------------------------------------------------------- the command


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl.gz"
    with TraceWriter(path) as writer:
        for candidate in TRACE.candidates:
            writer.write(as_record(candidate))
    return path


def command(*words: object) -> Result:
    app = typer.Typer()
    app.command()(command_replay)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_prints_the_agreed_fields(recorded: Path) -> None:
    first = command(recorded, "--json", "--order", "interleaved", "--seed", 2)
    again = command(recorded, "--json", "--order", "interleaved", "--seed", 2)
    found = json.loads(first.stdout)
    assert set(found) >= {
        "decisions",
        "overall",
        "turn_max_abs_deviation",
        "question_max_abs_deviation",
        "window_max_abs_deviation",
        "first_100",
        "overlap",
        "auroc",
        "by_turn",
    }
    assert set(found["by_turn"][0]) == {"turn", "n", "rate"}
    for name in ("seconds", "decisions_per_second"):
        found.pop(name)
    assert found.items() <= json.loads(again.stdout).items()


def test_the_command_prints_a_table_and_draws(recorded: Path, tmp_path: Path) -> None:
    plot = tmp_path / "rates.png"
    result = command(recorded, "--plot", plot, "--takeover-rate", 0.2)
    assert "nominal takeover rate 0.2" in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--takeover-rate", 1], "between 0 and 1"),
        (["--coverage", "published"], "--calibration"),
        (["--feedback", 50], "overall_step"),
        (["--plot", "rates.jpg"], ".png"),
        (["--plot", "/nowhere/rates.png"], "cannot be written"),
        (["--calibration", "none.npy"], "cannot be read"),
    ],
)
def test_the_command_refuses_what_cannot_be(recorded: Path, words: list[object], says: str) -> None:
    error = command(recorded, *words).exception
    assert isinstance(error, BadInput)
    assert says in error.message


def test_no_feedback_is_pure_conformal(recorded: Path) -> None:
    assert command(recorded, "--feedback", 0, "--json").exit_code == 0
