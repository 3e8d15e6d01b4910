"""Figures of a recorded run: its answers graded against the truth, without any model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atts_core.calibration.traces import read_trace
from atts_core.grading import Graded, Grades, Problem, grade_trace
from atts_core.types import Comparison
from services.evaluation import datasets
from services.evaluation.statistics import wilson
from services.mathematics import mathematics
from services.settings import ComparisonSettings

SECONDS = 30.0
"""For one comparison of two formulas: nobody waits for it here."""


async def recorded(
    trace: Path, questions: str, comparison: Comparison = "auto", tolerance: float = 0.0
) -> dict[str, Any]:
    """pass@1, majority and pass@m of the run in `trace`, with 95 % intervals.

    `questions` is a file as `--dataset` takes it, with the trace's question ids. `as_text` and
    `as_numbers` say what the same answers are worth to less patient comparisons.
    """
    problems = {
        item.id: Problem(item.question, item.answer) for item in datasets.load(questions).items
    }
    run = read_trace(trace)
    async with mathematics(ComparisonSettings(seconds=SECONDS)) as compare:
        grades = await grade_trace(
            run.candidates, problems, comparison=comparison, tolerance=tolerance,
            mathematics=compare,
        )  # fmt: skip
    as_numbers = await grade_trace(run.candidates, problems, comparison="number")
    as_text = await grade_trace(run.candidates, problems, comparison="text")
    return {
        "trace": str(trace),
        "cut": run.cut,
        "questions": len(grades.questions),
        "candidates": max(len(one.right) for one in grades.questions.values()),
        "comparison": comparison,
        **_shares(grades),
        "interval": "Wilson, 95 %, over questions",
        "undecided": grades.undecided,
        "as_numbers": _shares(as_numbers),
        "as_text": _shares(as_text),
    }


def _shares(grades: Grades) -> dict[str, Any]:
    by_question = grades.questions.values()
    shares: Mapping[str, list[float]] = {
        "pass_at_1": [_mean(one) for one in by_question],
        "majority": [float(one.voted) for one in by_question],
        "pass_at_m": [float(any(one.right)) for one in by_question],
    }
    found: dict[str, Any] = {}
    for name, values in shares.items():
        found[name] = sum(values) / len(values)
        found[f"{name}_interval"] = list(wilson(values))
    return found


def _mean(one: Graded) -> float:
    return sum(one.right) / len(one.right)


def as_table(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{found['questions']} questions × {found['candidates']} chains of {found['trace']}",
        "",
        "| answers compared | pass@1 | majority | pass@m |",
        "| --- | ---: | ---: | ---: |",
    ]
    for how, shares in (
        (found["comparison"], found),
        ("number", found["as_numbers"]),
        ("text", found["as_text"]),
    ):
        cells = [
            "{:.3f} ({:.3f}–{:.3f})".format(shares[name], *shares[f"{name}_interval"])
            for name in ("pass_at_1", "majority", "pass_at_m")
        ]
        lines.append(f"| {how} | " + " | ".join(cells) + " |")
    if found["undecided"]:
        lines.append(f"\n{found['undecided']} comparisons came to no verdict: they count as wrong.")
    if found["cut"]:
        lines.append("\nThe file is cut: what followed its last whole record was left out.")
    return "\n".join(lines)
