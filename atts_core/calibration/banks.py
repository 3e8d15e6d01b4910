"""All banks of one pair: every score, by turn, and of each question under way its own."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from dataclasses import dataclass, field

from atts_core.calibration.bank import Bank
from atts_core.calibration.feedback import Tally
from atts_core.calibration.settings import CalibrationSettings


@dataclass(slots=True)
class QuestionMemory:
    """What is known of one question: its scores in order, by turn too, and how its rate stands.

    A question has at most a few hundred scores, for which plain lists are quickest.
    """

    question: str
    most: int
    scores: list[float] = field(default_factory=list)
    turns: dict[int, list[float]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def add(self, group: int, conformity: float) -> None:
        """Take in one of the question's scores, up to `most`."""
        if len(self.scores) == self.most:
            return
        insort(self.scores, conformity)
        own = self.turns.get(group)
        if own is None:
            self.turns[group] = [conformity]
        else:
            insort(own, conformity)


def counts(ordered: list[float], score: float) -> tuple[int, int]:
    """How many scores of a sorted list are higher than `score`, and how many equal it."""
    right = bisect_right(ordered, score)
    if not right or ordered[right - 1] != score:
        return len(ordered) - right, 0
    return len(ordered) - right, right - bisect_left(ordered, score, 0, right)


class Banks:
    """The scores a segment can be ranked among; `fixed` are those of a calibration made once."""

    def __init__(self, settings: CalibrationSettings) -> None:
        self._settings = settings
        self.neighbour_weight = settings.neighbour_weight
        self.everything = Bank(settings.window)
        self.turns: dict[int, Bank] = {}
        self._names: dict[int, str] = {}
        self.questions: OrderedDict[str, QuestionMemory] = OrderedDict()
        self.fixed = Bank(settings.window)

    def group(self, turn: int) -> int:
        """The index of the range of turns that `turn` falls into."""
        return turn // self._settings.turns_per_bank

    def name(self, group: int) -> str:
        """How a group is called: `turn:3`, `turn:4-7`."""
        name = self._names.get(group)
        if name is None:
            name = self._names[group] = self._named(group)
        return name

    def _named(self, group: int) -> str:
        span = self._settings.turns_per_bank
        first, last = group * span, (group + 1) * span - 1
        return f"turn:{first}" if first == last else f"turn:{first}-{last}"

    def turn(self, group: int) -> Bank:
        """The bank of a range of turns, new where there is none."""
        bank = self.turns.get(group)
        if bank is None:
            bank = self.turns[group] = Bank(self._settings.window)
        return bank

    def question(self, question: str) -> QuestionMemory:
        """The memory of a question, new where there is none; the longest unused may leave."""
        memory = self.questions.get(question)
        if memory is None:
            memory = self.questions[question] = QuestionMemory(question, self._settings.window)
            if len(self.questions) > self._settings.max_questions:
                self.questions.popitem(last=False)
        else:
            self.questions.move_to_end(question)
        return memory

    def add(self, group: int, conformity: float) -> None:
        """Take in a score for all questions; a question's own memory has its own `add`."""
        self.everything.add(conformity)
        self.turn(group).add(conformity)
