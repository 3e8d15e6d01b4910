"""Answers held against the truth, over recorded candidates."""

import pytest

from atts_core.aggregation import Ballot
from atts_core.calibration.traces import TracedCandidate, TracedTurn
from atts_core.comparison import Comparer
from atts_core.errors import BadInput
from atts_core.grading import Problem, grade, grade_ballots, grade_trace


def chain(question: str, candidate: int, answer: str | None, ppl: float = 2.0) -> TracedCandidate:
    return TracedCandidate(question, candidate, answer, 1.0, (TracedTurn(0, "", ppl, None),))


PROBLEMS = {"a": Problem("1/2 + 1/4?", r"\frac{3}{4}"), "b": Problem("2+2?", "4")}


async def test_pass_at_1_majority_and_pass_at_m_are_told_apart() -> None:
    trace = [
        *(chain("a", i, answer) for i, answer in enumerate(["3/4", "0.75", "1", "2"])),
        *(chain("b", i, answer) for i, answer in enumerate(["5", "5.0", "4", None])),
    ]
    grades = await grade_trace(trace, PROBLEMS)
    assert grades.questions["a"].right == (True, True, False, False)
    assert grades.questions["b"].right == (False, False, True, False)
    assert (grades.pass_at_1, grades.majority, grades.pass_at_m) == (0.375, 0.5, 1.0)
    assert grades.questions["b"].answer == "5"


async def test_a_tie_goes_to_the_class_of_lowest_nll() -> None:
    trace = [chain("b", 0, "5", ppl=3.0), chain("b", 1, "4", ppl=1.5)]
    assert (await grade_trace(trace, PROBLEMS)).majority == 1.0
    trace = [chain("b", 0, "5", ppl=1.5), chain("b", 1, "4", ppl=3.0)]
    assert (await grade_trace(trace, PROBLEMS)).majority == 0.0


async def test_questions_of_unequal_size_weigh_the_same() -> None:
    trace = [chain("a", 0, "3/4"), *(chain("b", i, "5") for i in range(3))]
    assert (await grade_trace(trace, PROBLEMS)).pass_at_1 == 0.5


async def test_no_answer_is_wrong_and_does_not_vote() -> None:
    graded = await grade_ballots([Ballot(0, None, "", 1.0)], "4", Comparer("math"))
    assert (graded.right, graded.voted, graded.answer) == ((False,), False, None)
    assert await grade(None, "4", Comparer("math")) == "different"


async def test_a_question_without_its_problem_is_named() -> None:
    with pytest.raises(BadInput, match="'c' of the trace is not among the 2 problems"):
        await grade_trace([chain("c", 0, "1")], PROBLEMS)


async def test_a_comparison_without_a_verdict_is_wrong_and_counted() -> None:
    class Silent:
        async def same(self, one: str, other: str) -> bool | None:
            return None

    graded = await grade_ballots(
        [Ballot(0, "2+x", "", 1.0)], "x+2", Comparer("math", mathematics=Silent())
    )
    assert graded.right == (False,)
    assert graded.undecided == 1
