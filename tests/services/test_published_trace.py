"""The published run (arXiv 2509.15148, MATH-500 subset) graded by our answers and votes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from atts_core.calibration.traces import Trace, read_trace
from atts_core.grading import Grades, Problem, grade_trace
from services.mathematics import mathematics
from services.settings import ComparisonSettings

PUBLISHED = {"pass_at_1": 0.807, "majority": 0.91, "pass_at_m": 0.97}
READ_LITERALLY = {"3", "12"}
"""Questions whose true answers are written `12` and `-2,1`, and whose chains say `12th grade` and
`1, -2` (13 of 16 each): right to us, and with them the figures above are out of reach."""
WITHIN = 0.01 + 1e-9


@pytest.fixture(scope="module")
def trace() -> tuple[Trace, dict[str, Problem]]:
    path = os.environ.get("ATTS_TRACE")
    if not path:
        pytest.skip("set ATTS_TRACE to math100.jsonl.gz to grade it here")
    questions = Path(path).with_name("math100_questions.jsonl")
    if not questions.exists():
        pytest.skip(f"{questions} with the true answers is not beside the trace")
    rows = map(json.loads, questions.read_text().splitlines())
    problems = {str(row["question_id"]): Problem(row["question"], row["answer"]) for row in rows}
    return read_trace(Path(path)), problems


async def graded(trace: tuple[Trace, dict[str, Problem]]) -> Grades:
    async with mathematics(ComparisonSettings(seconds=30)) as compare:
        return await grade_trace(trace[0].candidates, trace[1], mathematics=compare)


async def test_the_published_run_is_graded_as_it_was_and_two_questions_better(
    trace: tuple[Trace, dict[str, Problem]],
) -> None:
    """The named questions alone take the figures away from the published ones."""
    ours = await graded(trace)
    print(
        f"pass@1 {ours.pass_at_1:.3f}, majority {ours.majority:.2f}, pass@16 {ours.pass_at_m:.2f}"
    )
    assert ours.undecided == 0
    assert ours.pass_at_m == pytest.approx(PUBLISHED["pass_at_m"], abs=WITHIN)
    assert ours.pass_at_1 == pytest.approx(0.828, abs=0.002)
    assert ours.majority == pytest.approx(0.93, abs=0.001)
    literal = await grade_trace(trace[0].candidates, trace[1], comparison="text")
    questions = {
        name: literal.questions[name] if name in READ_LITERALLY else mine
        for name, mine in ours.questions.items()
    }
    for name in READ_LITERALLY:
        assert sum(ours.questions[name].right) == 14
        assert sum(literal.questions[name].right) <= 1
    as_published = replace(ours, questions=questions)
    for name, figure in PUBLISHED.items():
        assert getattr(as_published, name) == pytest.approx(figure, abs=WITHIN), name
