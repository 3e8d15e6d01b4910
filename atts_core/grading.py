"""Answers held against the truth: pass@1, the vote's accuracy, pass@m."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from atts_core.aggregation import Ballot, aggregate
from atts_core.calibration.traces import TracedCandidate
from atts_core.comparison import Classes, Comparer, Mathematics, Verdict
from atts_core.errors import BadInput
from atts_core.types import Aggregation, Comparison, Message, Question


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its true answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Graded:
    """One question's chains against the truth.

    `right` has an entry a ballot; `voted` is whether the vote's answer is right. `undecided` counts
    comparisons without a verdict, which counted as wrong.
    """

    right: tuple[bool, ...]
    voted: bool
    answer: str | None
    undecided: int = 0


@dataclass(frozen=True, slots=True)
class Grades:
    """All questions, by id."""

    questions: Mapping[str, Graded]

    @property
    def pass_at_1(self) -> float:
        """Mean over questions of the share of right chains: what one chain is worth."""
        return _mean(sum(one.right) / len(one.right) for one in self.questions.values())

    @property
    def majority(self) -> float:
        """Share of questions whose vote is right."""
        return _mean(float(one.voted) for one in self.questions.values())

    @property
    def pass_at_m(self) -> float:
        """Share of questions with at least one right chain; no vote can do better."""
        return _mean(float(any(one.right)) for one in self.questions.values())

    @property
    def undecided(self) -> int:
        return sum(one.undecided for one in self.questions.values())


async def grade(answer: str | None, truth: str, comparer: Comparer) -> Verdict:
    """Whether an answer is the true one; no answer is a wrong one."""
    return "different" if answer is None else await comparer.verdict(truth, answer)


async def grade_ballots(
    ballots: Sequence[Ballot], truth: str, comparer: Comparer, how: Aggregation = "majority"
) -> Graded:
    """One question's ballots (at least one), sorted into classes, voted on, and graded."""
    classes = Classes(comparer, patience=math.inf)
    sorted_in = [
        Ballot(
            ballot.candidate,
            ballot.answer,
            ballot.text,
            ballot.nll,
            meaning=None if ballot.answer is None else await classes.of(ballot.answer),
        )
        for ballot in ballots
    ]
    verdicts = [await grade(ballot.answer, truth, comparer) for ballot in ballots]
    voted = aggregate(sorted_in, how).answer
    verdict = await grade(voted, truth, comparer)
    return Graded(
        right=tuple(one == "same" for one in verdicts),
        voted=verdict == "same",
        answer=voted,
        undecided=classes.undecided + verdicts.count("undecided"),
    )


async def grade_trace(
    candidates: Iterable[TracedCandidate],
    problems: Mapping[str, Problem],
    *,
    comparison: Comparison = "auto",
    tolerance: float = 0.0,
    mathematics: Mathematics | None = None,
    aggregation: Aggregation = "majority",
) -> Grades:
    """A recorded run's answers, voted on and graded; `problems` by the trace's question ids.

    A chain's nll is the mean of its turns', as a trace has no token counts. Raises `BadInput` for a
    question without its problem.
    """
    by_question: dict[str, list[TracedCandidate]] = {}
    for candidate in candidates:
        by_question.setdefault(candidate.question_id, []).append(candidate)
    graded = {}
    for name, chains in by_question.items():
        if name not in problems:
            raise BadInput(
                f"question_id: {name!r} of the trace is not among the {len(problems)} problems; "
                "give the problems that the trace was recorded on",
                field="question_id",
            )
        problem = problems[name]
        question = Question(name, (Message("user", problem.question),))
        comparer = Comparer.of(question, comparison, tolerance, mathematics)
        ballots = [Ballot(one.candidate, one.final_answer, "", _nll(one)) for one in chains]
        graded[name] = await grade_ballots(ballots, problem.answer, comparer, aggregation)
    return Grades(graded)


def _nll(candidate: TracedCandidate) -> float:
    scored = [math.log(turn.ppl) for turn in candidate.turns if turn.ppl is not None]
    return sum(scored) / len(scored) if scored else math.inf


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else math.nan
