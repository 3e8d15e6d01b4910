"""Rate feedback: a threshold that moves so that the takeover rate is the one asked for.

After each decision a group's excess grows by 1[taken over] − ρ, and the threshold is raised by
the excess times the step: adaptive conformal inference (Gibbs & Candès, NeurIPS 2021). Several
groups, each with its excess, act on one threshold together (Angelopoulos, Jordan & Tibshirani,
"Gradient equilibrium in online learning", 2025). The correction is quadratic, a saturating
integrator in the sense of conformal PID control (Angelopoulos, Candès & Tibshirani, NeurIPS
2023): a small excess, which is chance, hardly moves the threshold and costs no selectivity; one
of 1/step decisions moves it with full force. It holds whatever the scores do: a group alone in
charge of the threshold is never off by more than (1 + √max(ρ, 1−ρ) / step) decisions.
"""

from __future__ import annotations

from collections import OrderedDict

STEADY = 64
"""Decisions of a group after which its step falls as 1/√n: its rate still converges."""


class Tally:
    """Takeovers that happened against takeovers that were promised."""

    __slots__ = ("decisions", "promised", "taken")

    def __init__(self) -> None:
        self.decisions = 0
        self.taken = 0
        self.promised = 0.0

    def add(self, taken_over: bool, rate: float) -> None:
        self.decisions += 1
        self.taken += taken_over
        self.promised += rate

    def include(self, other: Tally) -> None:
        self.decisions += other.decisions
        self.taken += other.taken
        self.promised += other.promised

    @property
    def deviation(self) -> float:
        """Realised minus nominal rate, of at least one decision."""
        return (self.taken - self.promised) / self.decisions

    def correction(self, step: float) -> float:
        """What to add to the threshold, with a step that stays as it is."""
        x = step * (self.taken - self.promised)
        return x * abs(x)

    def settling_correction(self, step: float) -> float:
        """What to add to the threshold, with a step that falls as 1/√n from `STEADY` on."""
        if self.decisions < STEADY:
            return self.correction(step)
        return self.correction(step) * STEADY / (self.decisions + 1)


class Ledger:
    """The tallies of all decisions that asked for one rate under one coverage."""

    __slots__ = ("overall", "turns")

    def __init__(self) -> None:
        self.overall = Tally()
        self.turns: dict[int, Tally] = {}

    def turn(self, group: int) -> Tally:
        tally = self.turns.get(group)
        if tally is None:
            tally = self.turns[group] = Tally()
        return tally


class Ledgers:
    """A ledger for each (rate, coverage) in use; of more than `most`, the longest unused leave."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._ledgers: OrderedDict[tuple[float, str], Ledger] = OrderedDict()

    def of(self, rate: float, coverage: str) -> Ledger:
        key = (rate, coverage)
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger()
            if len(self._ledgers) > self._most:
                self._ledgers.popitem(last=False)
        else:
            self._ledgers.move_to_end(key)
        return ledger
