"""A recorded run graded without models."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from atts_core.errors import BadInput
from services.evaluation.recorded import as_table, recorded


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chains(question: int, *answers: str) -> list[dict[str, object]]:
    turn = {"turn": 0, "draft": "…", "ppl": 1.5, "target": None}
    return [
        {"question_id": question, "candidate": n, "final_answer": answer, "duration_s": 1.0,
         "turns": [turn]}
        for n, answer in enumerate(answers)
    ]  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rows = chains(0, "1/2", "0.5", r"\frac12", "3") + chains(1, "7", "8", "8", "8")
    return write(tmp_path / "trace.jsonl", rows)


def questions(folder: Path, *ids: int) -> str:
    rows = [{"question_id": n, "question": "?", "answer": [r"\frac{1}{2}", "7"][n]} for n in ids]
    return str(write(folder / "questions.jsonl", rows))


async def test_a_trace_s_answers_are_graded_as_mathematics(trace: Path) -> None:
    found = await recorded(trace, questions(trace.parent, 0, 1))
    assert found["pass_at_1"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert (found["majority"], found["pass_at_m"]) == (0.5, 1.0)
    assert (found["questions"], found["candidates"]) == (2, 4)
    assert found["as_text"]["pass_at_1"] < found["pass_at_1"]
    assert "| auto | 0.500" in as_table(found)


async def test_a_trace_of_other_questions_is_refused(trace: Path) -> None:
    with pytest.raises(BadInput, match="question_id: '1'"):
        await recorded(trace, questions(trace.parent, 0))


async def test_the_published_run_is_worth_what_was_published() -> None:
    """With two questions more as mathematics: see tests/services/test_published_trace.py."""
    path = os.environ.get("ATTS_TRACE")
    if not path:
        pytest.skip("set ATTS_TRACE to math100.jsonl.gz to grade it here")
    found = await recorded(Path(path), str(Path(path).with_name("math100_questions.jsonl")))
    published = {"pass_at_1": 0.807, "majority": 0.91, "pass_at_m": 0.97}
    for name, figure in published.items():
        assert found["as_numbers"][name] == pytest.approx(figure, abs=0.01 + 1e-9)
    assert found["majority"] == pytest.approx(0.93)
