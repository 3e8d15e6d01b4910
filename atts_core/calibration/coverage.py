"""Coverages: which scores a segment is ranked among, and which groups' rates are held.

`marginal` and `conditional` are the paper's (arXiv 2509.15148, §3); `published` is what its code
does. `adaptive` ranks a segment among its neighbours, the nearer the heavier (weighted conformal
p-values: Barber, Candès, Ramdas & Tibshirani, "Conformal prediction beyond exchangeability",
Annals of Statistics 2023), and holds the rate of every turn and every question as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from atts_core.calibration.bank import Bank
from atts_core.calibration.banks import Banks, QuestionMemory, counts


class Rank(NamedTuple):
    """Where a score stands: how many of the scores it was held against are higher or equal.

    The first three are effective numbers where scores have weights; `size` counts the scores
    themselves, `group` names them.
    """

    higher: float
    equal: float
    total: float
    size: int
    group: str


Ranking = Callable[[Banks, QuestionMemory, int, float], Rank]
"""(banks, the question's memory, group of turns, conformity) → rank."""


def _in(bank: Bank, score: float, group: str) -> Rank:
    higher, equal = bank.counts(score)
    return Rank(higher, equal, len(bank), len(bank), group)


def among_all(banks: Banks, memory: QuestionMemory, group: int, score: float) -> Rank:
    """Among all scores of the pair."""
    return _in(banks.everything, score, "all")


def among_turn(banks: Banks, memory: QuestionMemory, group: int, score: float) -> Rank:
    """Among the scores of the same turn, of all questions."""
    return _in(banks.turn(group), score, banks.name(group))


def among_question(banks: Banks, memory: QuestionMemory, group: int, score: float) -> Rank:
    """Among the scores of the question's own candidates."""
    own = memory.scores
    higher, equal = counts(own, score)
    return Rank(higher, equal, len(own), len(own), f"question:{memory.question}")


def among_fixed(banks: Banks, memory: QuestionMemory, group: int, score: float) -> Rank:
    """Among the scores of a calibration made once."""
    return _in(banks.fixed, score, "fixed")


def among_neighbours(banks: Banks, memory: QuestionMemory, group: int, score: float) -> Rank:
    """Among three disjoint sets: same question and turn, each score with weight 1; the question's
    other turns and the turn's other questions, each set with weight `neighbour_weight` at most.

    A question's first segments are so judged by their turn, the later ones more and more by
    their own siblings. Counts are in units of the mean weight Σw² / Σw, so that `total` is the
    effective number of scores, (Σw)² / Σw² (Kish 1965), and the segment itself counts as one of
    them: with equal weights this is the ordinary rank, and with others the smoothed p-value
    stays uniform to within 0.02 under exchangeability (tests/atts_core/test_guarantees.py).
    """
    turn = banks.turn(group)
    higher_of_turn, equal_of_turn = turn.counts(score)
    own = memory.turns.get(group)
    own_higher, own_equal = counts(own, score) if own else (0, 0)
    siblings = len(own) if own else 0
    others = len(memory.scores) - siblings
    # A full window may have dropped some of the question's scores that its own list still holds.
    strangers = max(0, len(turn) - siblings)
    higher: float = own_higher
    equal: float = own_equal
    total: float = siblings
    squares: float = siblings
    if others:
        question_higher, question_equal = counts(memory.scores, score)
        share = min(1.0, banks.neighbour_weight / others)
        higher += share * (question_higher - own_higher)
        equal += share * (question_equal - own_equal)
        total += share * others
        squares += share * share * others
    if strangers:
        share = min(1.0, banks.neighbour_weight / strangers)
        higher += share * max(0, higher_of_turn - own_higher)
        equal += share * max(0, equal_of_turn - own_equal)
        total += share * strangers
        squares += share * share * strangers
    scale = total / squares if squares else 0.0
    size = siblings + others + strangers
    name = f"question:{memory.question}/{banks.name(group)}"
    return Rank(higher * scale, equal * scale, total * scale, size, name)


@dataclass(frozen=True, slots=True)
class Coverage:
    """A coverage is a value: how segments are ranked, and whose rates feedback holds."""

    name: str
    rank: Ranking
    holds_overall: bool = True
    holds_turn: bool = False
    holds_question: bool = False
    smoothed: bool = True


COVERAGES = {
    one.name: one
    for one in (
        Coverage("adaptive", among_neighbours, holds_turn=True, holds_question=True),
        Coverage("turn", among_turn, holds_turn=True),
        Coverage("marginal", among_all),
        Coverage("conditional", among_question, holds_question=True),
        Coverage("published", among_fixed, holds_overall=False, smoothed=False),
    )
}
