"""Which answers say the same: as mathematics, numbers, text, or the options of a question.

What can be settled exactly is settled here, at once: equal forms, plain numbers, measures. The
rest of mathematics is asked of a `Mathematics`, which may take its time, or fail to come to a
verdict; such answers count as different, and the class says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from time import monotonic
from typing import Literal, Protocol, TypeAlias

from atts_core import choices
from atts_core.answers import normal_form, text_form
from atts_core.quantities import NAMES, Quantity, only_number, quantity, undressed
from atts_core.types import Comparison, Question

Form: TypeAlias = str | Fraction
Verdict: TypeAlias = Literal["same", "different", "undecided"]

PATIENCE = 10.0
"""Seconds that one question's comparisons may take in all; later ones are undecided."""
_LONGEST = 400
"""Characters of a formula at most; a longer answer is compared as text."""
_DEEPEST = 12
"""Brackets within brackets in a formula at most."""
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{\w+\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_LETTER = re.compile(r"\(?([A-J])\)?")


class Mathematics(Protocol):
    """Somebody who knows whether two formulas are equal."""

    async def same(self, one: str, other: str) -> bool | None:
        """Whether both answers (LaTeX or plain) are equal; None where no verdict was reached."""
        ...


@dataclass(frozen=True)
class Comparer:
    """How the answers to one question are compared.

    `how` is `auto` no more; `tolerance` is relative, for numbers. Without `mathematics`, formulas
    are the same only where their forms are.
    """

    how: Comparison
    options: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    mathematics: Mathematics | None = None

    @classmethod
    def of(
        cls,
        question: Question,
        how: Comparison,
        tolerance: float = 0.0,
        mathematics: Mathematics | None = None,
    ) -> Comparer:
        """`auto`: by choice where the question's last message lists options, else mathematics."""
        listed = choices.options(question.messages[-1].content) if question.messages else {}
        if how == "auto":
            how = "choice" if listed else "math"
        return cls(how, listed, tolerance, mathematics)

    def form(self, answer: str) -> Form:
        """Equal forms are the same answer, whatever else is asked."""
        match self.how:
            case "choice":
                return choices.letter(answer, self.options) or text_form(answer)
            case "number":
                number = only_number(answer)
                return text_form(answer) if number is None else number
            case "text":
                return text_form(answer)
            case _:
                bare = _LETTER.fullmatch(undressed(answer))
                return bare[1].casefold() if bare else normal_form(answer)

    async def verdict(self, one: str, other: str) -> Verdict:
        """Whether two answers say the same. It does not depend on which of them comes first."""
        forms = self.form(one), self.form(other)
        if forms[0] == forms[1]:
            return "same"
        if self.how in ("choice", "text"):
            return "different"
        measures = self._measure(one, forms[0]), self._measure(other, forms[1])
        if measures[0] is not None and measures[1] is not None:
            alike = measures[0].same(measures[1], self.tolerance)
            return "same" if alike else "different"
        if self.how == "number" or self.mathematics is None:
            return "different"
        if not (mathematical(one) and mathematical(other)):
            return "different"
        alike_or_unknown = await self.mathematics.same(*sorted((one, other)))
        if alike_or_unknown is None:
            return "undecided"
        return "same" if alike_or_unknown else "different"

    def _measure(self, answer: str, form: Form) -> Quantity | None:
        if isinstance(form, Fraction):
            return Quantity(form)
        return quantity(undressed(answer)) if self.how == "math" else None


def mathematical(answer: str) -> bool:
    """Whether an answer may be a formula: neither words, nor too long or too deep to be one."""
    if len(answer) > _LONGEST or _depth(answer) > _DEEPEST:
        return False
    words = _COMMAND.sub(" ", undressed(answer))
    if re.fullmatch(r"[^\W\d_]{2,}", words.strip()):
        return False  # `no` and `on` are not the same product of n and o
    return all(word.casefold() in NAMES for word in _WORD.findall(words))


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        depth += (sign in "{([") - (sign in "})]")
        deepest = max(deepest, depth)
    return deepest


class Classes:
    """Answers sorted into classes as they come in: each joins the first class it is the same as.

    A class is known by its first answer, and classes never merge or split, so that what was decided
    stays decided. Where sameness is transitive among the answers (always for text, choice, and
    numbers without tolerance), the classes do not depend on the order.
    """

    def __init__(self, comparer: Comparer, patience: float = PATIENCE) -> None:
        self.undecided = 0
        """Comparisons without a verdict; they counted as different."""
        self._comparer = comparer
        self._patience = patience
        self._first: list[str] = []
        """By class, its first answer."""
        self._known: dict[Form, int] = {}
        self._lock = asyncio.Lock()

    async def of(self, answer: str) -> int:
        """The number of the class that the answer belongs to, counted from 0.

        Whoever is cancelled meanwhile gets the number of a class of its own from `alone`.
        """
        form = self._comparer.form(answer)
        if form in self._known:
            return self._known[form]
        async with self._lock:  # one after the other, in order of arrival
            if form not in self._known:
                found = await self._find(answer)
                if form not in self._known:  # as `alone` may have sorted it in meanwhile
                    self._known[form] = self._new(answer) if found is None else found
            return self._known[form]

    def alone(self, answer: str) -> int:
        """The class of an answer that there was no time to compare: that of its form, or a new one.

        It counts as undecided.
        """
        form = self._comparer.form(answer)
        if form not in self._known:
            self.undecided += 1
            self._known[form] = self._new(answer)
        return self._known[form]

    async def _find(self, answer: str) -> int | None:
        for number, first in enumerate(self._first):
            began = monotonic()
            if self._patience > 0:
                verdict = await self._comparer.verdict(first, answer)
            else:
                verdict = "undecided"
            self._patience -= monotonic() - began
            if verdict == "same":
                return number
            self.undecided += verdict == "undecided"
        return None

    def _new(self, answer: str) -> int:
        self._first.append(answer)
        return len(self._first) - 1
