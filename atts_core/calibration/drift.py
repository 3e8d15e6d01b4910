"""Drift made visible: does what arrives still look like what arrived before?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from atts_core.calibration.bank import Bank
from atts_core.calibration.feedback import Tally
from atts_core.calibration.pvalues import p_smoothed

JUMP = 0.01
WINDOW = 200
"""Decisions whose rate is looked at together."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something drifted: `at` counts the gate's decisions, `evidence` is what crossed `limit`."""

    kind: Literal["scores", "rate"]
    at: int
    evidence: float
    limit: float

    def __str__(self) -> str:
        if self.kind == "scores":
            return (
                f"scores of new questions no longer look like earlier ones: conformal test "
                f"martingale {self.evidence:.0f} (limit {self.limit:.0f}) at decision {self.at}"
            )
        return (
            f"the takeover rate of the last {WINDOW} decisions is off by {self.evidence:+.3f} "
            f"(limit {self.limit:.3f}) at decision {self.at}"
        )


class ScoreDrift:
    """A conformal test martingale on the first score of each question.

    One score a question, because a question's candidates resemble each other even where nothing
    drifts, and the first, because no earlier decision has touched it. While questions are
    exchangeable, the martingale reaches 1/δ with probability δ at most (Ville); that is the
    false-alarm probability of each period of `period` questions. It restarts from 1 after each
    period, and after an alarm it also forgets the scores, so that the new state is the reference.
    Simple Jumper: Vovk et al., "Retrain or not retrain: conformal test martingales for
    change-point detection", COPA 2021.
    """

    def __init__(self, false_alarm: float, period: int) -> None:
        self.limit = 1 / false_alarm
        self._period = period
        self._scores = Bank(2 * period)
        self._restart()

    def _restart(self) -> None:
        self._seen = 0
        self._capital = [1 / 3, 1 / 3, 1 / 3]
        self.highest = 1.0

    @property
    def martingale(self) -> float:
        return sum(self._capital)

    def observe(self, conformity: float, coin: float) -> float | None:
        """Take in a question's first score; the martingale's value where it raises an alarm."""
        higher, equal = self._scores.counts(conformity)
        p = p_smoothed(higher, equal, len(self._scores), coin)
        self._scores.add(conformity)
        shared = JUMP / 3 * self.martingale
        self._capital = [
            ((1 - JUMP) * capital + shared) * (1 + bet * (p - 0.5))
            for bet, capital in zip((-1, 0, 1), self._capital, strict=True)
        ]
        self._seen += 1
        reached = self.martingale
        self.highest = max(self.highest, reached)
        if reached >= self.limit:
            self._scores = Bank(2 * self._period)
            self._restart()
            return reached
        if self._seen == self._period:
            recent = self._scores.recent(self._period)
            self._scores = Bank(2 * self._period)
            for score in recent:
                self._scores.add(score)
            self._restart()
        return None

    def state(self) -> dict[str, Any]:
        return {
            "martingale": self.martingale,
            "highest": self.highest,
            "limit": self.limit,
            "questions": self._seen,
            "period": self._period,
        }


class RateLog:
    """Realised against nominal takeover rate, by turn and in blocks of `WINDOW` decisions."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._turns: dict[int, Tally] = {}
        self._block = Tally()
        self._last_block: Tally | None = None

    def observe(self, turn: int, taken_over: bool, rate: float) -> float | None:
        """Take in a decision; the deviation of a full block where it is out of tolerance."""
        by_turn = self._turns.get(turn)
        if by_turn is None:
            by_turn = self._turns[turn] = Tally()
        by_turn.add(taken_over, rate)
        self._block.add(taken_over, rate)
        if self._block.decisions < WINDOW:
            return None
        self._last_block, self._block = self._block, Tally()
        deviation = self._last_block.deviation
        return deviation if abs(deviation) > self._tolerance else None

    def state(self) -> dict[str, Any]:
        overall = Tally()
        for by_turn in self._turns.values():
            overall.include(by_turn)
        return {
            "overall": _rates(overall),
            "window": _rates(self._last_block) if self._last_block else None,
            "by_turn": [{"turn": t, **_rates(self._turns[t])} for t in sorted(self._turns)],
        }


def _rates(tally: Tally) -> dict[str, float]:
    n = tally.decisions
    if not n:
        return {"n": 0, "rate": 0.0, "nominal": 0.0}
    return {"n": n, "rate": tally.taken / n, "nominal": tally.promised / n}
