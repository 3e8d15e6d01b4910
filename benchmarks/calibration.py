"""Calibration measured: microseconds of a rank and an insert, bytes of a bank, decisions a second;
and swept: how rates and selectivity answer to the feedback steps and the neighbours' weight."""

from __future__ import annotations

import os
import platform
import random
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any, get_args

from atts_core.calibration.bank import Bank
from atts_core.calibration.pvalues import p_smoothed
from atts_core.calibration.settings import CalibrationSettings
from atts_core.calibration.synthetic import RECIPES, synthetic
from atts_core.calibration.traces import Trace, read_trace
from atts_core.replay import Order, Step, arrival, replay, report

SIZES = (100, 1_000, 10_000, 100_000)
REPEATS = 25
"""Each time is the best of so many, and CPU time: what the work takes where nothing else runs."""

FEEDBACK = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 32.0)
STEPS = ("overall_step", "turn_step", "question_step")


def run() -> dict[str, Any]:
    """Banks of 10² to 10⁵ scores, and a synthetic run decided again under each coverage."""
    steps = arrival(synthetic(RECIPES["plain"], 1), "question", 0)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "banks": [_bank(size) for size in SIZES],
        "replay": [_replay(steps, coverage) for coverage in ("marginal", "turn", "adaptive")],
    }


def _bank(size: int) -> dict[str, float]:
    draw = random.Random(size)
    arrived = [draw.gauss(0, 1) for _ in range(size)]
    asked = [draw.gauss(0, 1) for _ in range(1_000)]
    tracemalloc.start()
    bank = Bank(size)
    for score in arrived:
        bank.add(score)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    def rank() -> None:
        for score in asked:
            higher, equal = bank.counts(score)
            p_smoothed(higher, equal, size, 0.5)

    def insert() -> None:
        for score in asked:
            bank.add(score)

    return {
        "scores": size,
        "p_value_us": _best(rank) / len(asked) * 1e6,
        "insert_us": _best(insert) / len(asked) * 1e6,
        # The floats themselves were there before: 24 bytes each.
        "bytes": held + 24 * size,
    }


def _best(work: Callable[[], object], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        began = process_time()
        work()
        times.append(process_time() - began)
    return min(times)


def _replay(steps: Sequence[Step], coverage: str) -> dict[str, Any]:
    settings = CalibrationSettings.model_validate({"coverage": coverage})
    seconds = _best(lambda: replay(steps, rate=0.4, settings=settings), REPEATS // 3)
    return {
        "coverage": coverage,
        "decisions": len(steps),
        "decisions_per_second": len(steps) / seconds,
    }


def as_table(result: dict[str, Any]) -> str:
    """The result of `run` for a person."""
    lines = [
        f"calibration on {result['machine']}, best CPU time of {REPEATS}",
        "",
        "    scores   p-value µs   insert µs   memory KiB",
        *(
            f"{row['scores']:10,} {row['p_value_us']:12.2f} {row['insert_us']:11.2f} "
            f"{row['bytes'] / 1024:12,.0f}"
            for row in result["banks"]
        ),
        "",
        "    coverage     decisions   a second, one core",
        *(
            f"    {row['coverage']:10} {row['decisions']:11,} {row['decisions_per_second']:20,.0f}"
            for row in result["replay"]
        ),
    ]
    return "\n".join(lines)


# --------------------------------------------------------------------------------- the sweep


@dataclass(frozen=True, slots=True)
class Case:
    """A trace in the order in which the gate sees it."""

    trace: str
    seed: int
    steps: Sequence[Step]


def cases(recorded: Path | None, seeds: int) -> list[Case]:
    """Every synthetic trace, and the recorded one where there is one, in both orders."""
    traces: dict[str, Trace] = {name: synthetic(recipe, 1) for name, recipe in RECIPES.items()}
    if recorded is not None:
        traces["recorded"] = read_trace(recorded)
    return [
        Case(name, seed, arrival(trace, order, seed))
        for name, trace in traces.items()
        for order in get_args(Order)
        for seed in range(seeds)
    ]


def sweep(recorded: Path | None, *, rate: float = 0.4, seeds: int = 2) -> dict[str, Any]:
    """Worst deviations and mean selectivity over all cases, by feedback and neighbour weight."""
    every = cases(recorded, seeds)
    default = CalibrationSettings()
    by_feedback = [
        {
            "feedback": scale,
            **_judge(
                every,
                default.model_copy(update={name: getattr(default, name) * scale for name in STEPS}),
                rate,
            ),
        }
        for scale in FEEDBACK
    ]
    by_weight = [
        {
            "neighbour_weight": weight,
            **_judge(every, default.model_copy(update={"neighbour_weight": weight}), rate),
        }
        for weight in WEIGHTS
    ]
    return {
        "rate": rate,
        "traces": sorted({case.trace for case in every}),
        "seeds": seeds,
        "by_feedback": by_feedback,
        "by_weight": by_weight,
        "by_trace": [
            {"trace": name, **_judge([c for c in every if c.trace == name], default, rate)}
            for name in sorted({case.trace for case in every})
        ],
    }


def _judge(every: Sequence[Case], settings: CalibrationSettings, rate: float) -> dict[str, float]:
    reports = []
    for case in every:
        taken, _ = replay(case.steps, rate=rate, settings=settings, seed=case.seed)
        reports.append(report(case.steps, taken, rate))

    def worst(name: str) -> float:
        return float(max(found[f"{name}_max_abs_deviation"] or 0.0 for found in reports))

    def mean(name: str) -> float:
        return float(sum(found[name] for found in reports) / len(reports))

    return {
        "overall": max(abs(found["overall"] - rate) for found in reports),
        "first_100": max(abs(found["first_100"] - rate) for found in reports),
        "turn": worst("turn"),
        "question": worst("question"),
        "window": worst("window"),
        "sliding_window": worst("sliding_window"),
        "overlap": mean("overlap"),
        "auroc": mean("auroc"),
    }


_COLUMNS = (
    "overall",
    "first_100",
    "turn",
    "question",
    "window",
    "sliding_window",
    "overlap",
    "auroc",
)


def as_sweep_table(result: dict[str, Any]) -> str:
    """The result of `sweep` for a person."""
    lines = [
        f"takeover rate {result['rate']}, {len(result['traces'])} traces, both orders, "
        f"{result['seeds']} seeds: largest deviations, mean selectivity"
    ]
    for rows, name, width in (
        ("by_feedback", "feedback", 16),
        ("by_weight", "neighbour_weight", 16),
        ("by_trace", "trace", 16),
    ):
        lines += ["", f"{name:>{width}}" + "".join(f"{c:>15}" for c in _COLUMNS)]
        lines += [
            f"{row[name]!s:>{width}}" + "".join(f"{row[c]:15.3f}" for c in _COLUMNS)
            for row in result[rows]
        ]
    return "\n".join(lines)


def draw_sweep(result: dict[str, Any], path: Path) -> None:
    """Rates and selectivity over the feedback steps and the neighbours' weight."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (rows, name, label) in enumerate(
        (
            ("by_feedback", "feedback", "feedback steps, times the default"),
            ("by_weight", "neighbour_weight", "neighbour weight"),
        )
    ):
        at = range(len(result[rows]))
        for kind in ("question", "sliding_window", "turn", "first_100"):
            panels[0][column].plot(
                at, [row[kind] for row in result[rows]], marker=".", label=kind.replace("_", " ")
            )
        for kind, colour in (("overlap", "C4"), ("auroc", "C5")):
            panels[1][column].plot(
                at, [row[kind] for row in result[rows]], marker=".", label=kind, color=colour
            )
        panels[1][column].set_xlabel(label)
        panels[1][column].set_xticks(at, [f"{row[name]:g}" for row in result[rows]])
    panels[0][0].set(ylabel="largest deviation from the rate", ylim=(0, 0.2))
    panels[1][0].set(ylabel="selectivity, mean")
    panels[0][0].legend()
    panels[1][0].legend()
    figure.savefig(path, dpi=120)
