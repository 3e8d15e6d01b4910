"""Coverages: which scores a segment is ranked among, and which groups' rates are held.

`marginal` and `conditional` are the paper's (arXiv 2509.15148, §3); `published` is what its code
does. `adaptive` ranks a segment among its neighbours, the nearer the heavier (weighted conformal
p-values: Barber, Candès, Ramdas & Tibshirani, "Conformal prediction beyond exchangeability",
Annals of Statistics 2023), and holds the rate of every turn and every question as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from atts_core.calibration.bank import Bank
from atts_core.calibration.feedback import Tally


class Rank(NamedTuple):
    """Where a score stands: (weighted) numbers of higher, equal and all scores it was held against.

    `size` counts the scores themselves, `group` names them.
    """

    higher: float
    equal: float
    total: float
    size: int
    group: str


@dataclass(slots=True)
class QuestionMemory:
    """What is known of one question: its scores, by turn too, and how its rate stands."""

    scores: Bank
    turns: dict[int, Bank] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


class Banks:
    """All scores of one pair: everything, by turn, and of each question under way its own."""

    def __init__(self, window: int, turns_per_bank: int, max_questions: int) -> None:
        self._window = window
        self._turns_per_bank = turns_per_bank
        self._max_questions = max_questions
        self.everything = Bank(window)
        self.turns: dict[int, Bank] = {}
        self.questions: OrderedDict[str, QuestionMemory] = OrderedDict()
        self.fixed = Bank(window)

    def group(self, turn: int) -> int:
        """The index of the range of turns that `turn` falls into."""
        return turn // self._turns_per_bank

    def name(self, group: int) -> str:
        first = group * self._turns_per_bank
        last = first + self._turns_per_bank - 1
        return f"turn:{first}" if first == last else f"turn:{first}-{last}"

    def turn(self, group: int) -> Bank:
        bank = self.turns.get(group)
        if bank is None:
            bank = self.turns[group] = Bank(self._window)
        return bank

    def question(self, question: str) -> QuestionMemory:
        """The memory of a question, new where there is none; the longest unused may leave."""
        memory = self.questions.get(question)
        if memory is None:
            memory = self.questions[question] = QuestionMemory(Bank(self._window))
            if len(self.questions) > self._max_questions:
                self.questions.popitem(last=False)
        else:
            self.questions.move_to_end(question)
        return memory

    def add(self, group: int, conformity: float) -> None:
        self.everything.add(conformity)
        self.turn(group).add(conformity)

    def add_own(self, memory: QuestionMemory, group: int, conformity: float) -> None:
        """Add to a question's own banks."""
        memory.scores.add(conformity)
        own = memory.turns.get(group)
        if own is None:
            own = memory.turns[group] = Bank(self._window)
        own.add(conformity)


class Place(NamedTuple):
    """Where a segment was written: its question's memory and name, its range of turns."""

    memory: QuestionMemory
    question: str
    group: int


Ranking = Callable[[Banks, Place, float, float], Rank]
"""(banks, place, conformity, neighbour weight) → rank."""


def _in(bank: Bank, score: float, group: str) -> Rank:
    higher, equal = bank.counts(score)
    return Rank(higher, equal, len(bank), len(bank), group)


def among_all(banks: Banks, place: Place, score: float, weight: float) -> Rank:
    """Among all scores of the pair."""
    return _in(banks.everything, score, "all")


def among_turn(banks: Banks, place: Place, score: float, weight: float) -> Rank:
    """Among the scores of the same turn, of all questions."""
    return _in(banks.turn(place.group), score, banks.name(place.group))


def among_question(banks: Banks, place: Place, score: float, weight: float) -> Rank:
    """Among the scores of the question's own candidates."""
    return _in(place.memory.scores, score, f"question:{place.question}")


def among_fixed(banks: Banks, place: Place, score: float, weight: float) -> Rank:
    """Among the scores of a calibration made once."""
    return _in(banks.fixed, score, "fixed")


def among_neighbours(banks: Banks, place: Place, score: float, weight: float) -> Rank:
    """Among three disjoint sets: same question and turn, each score with weight 1; the question's
    other turns and the turn's other questions, each set with weight `weight` in all at most.

    No weight is above 1, the segment's own, as Barber et al. ask. A question's first segments
    are so judged by the turn, the later ones more and more by their own siblings.
    """
    memory, _, group = place
    turn = banks.turn(group)
    turn_higher, turn_equal = turn.counts(score)
    turn_size = len(turn)
    higher, equal, total, size = 0.0, 0.0, 0.0, turn_size
    own = memory.turns.get(group)
    if own is not None:
        own_higher, own_equal = own.counts(score)
        own_size = len(own)
        higher, equal, total = own_higher, own_equal, own_size
        turn_higher, turn_equal = turn_higher - own_higher, turn_equal - own_equal
        turn_size -= own_size
    else:
        own_higher = own_equal = own_size = 0
    others = len(memory.scores) - own_size
    if others > 0:
        question_higher, question_equal = memory.scores.counts(score)
        share = min(1.0, weight / others)
        higher += share * max(0, question_higher - own_higher)
        equal += share * max(0, question_equal - own_equal)
        total += share * others
        size += others
    if turn_size > 0:
        # A full window may have dropped a question's scores from the turn's bank before its own.
        share = min(1.0, weight / turn_size)
        higher += share * max(0, turn_higher)
        equal += share * max(0, turn_equal)
        total += share * turn_size
    return Rank(higher, equal, total, size, f"question:{place.question}/{banks.name(group)}")


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
