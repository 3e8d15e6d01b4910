"""From a score to a decision: accept the draft's segment, or let the target take over."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from atts_core.calibration.bank import Bank
from atts_core.calibration.banks import Banks
from atts_core.calibration.coverage import COVERAGES, Coverage, Rank
from atts_core.calibration.drift import Alarm, RateLog, ScoreDrift
from atts_core.calibration.feedback import Ledgers
from atts_core.calibration.keys import Batch, PairKey, Record
from atts_core.calibration.pvalues import p_smoothed, p_value
from atts_core.calibration.settings import CalibrationSettings
from atts_core.errors import BadInput, ScoreMissing
from atts_core.types import Score

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Decision:
    """One segment's verdict and everything it rests on.

    `p_value` is the paper's; `p_smoothed`, drawn with `coin`, is the one compared with
    `threshold`: the segment is taken over when it is larger (`published` compares `p_value`).
    `bank` names the scores it was ranked among, `bank_size` how many there were, `cold` whether
    these were too few to say much.
    """

    taken_over: bool
    p_value: float
    p_smoothed: float
    threshold: float
    coin: float
    coverage: str
    bank: str
    bank_size: int
    cold: bool


class Gate:
    """Decides each segment on its own, and learns from it; never blocks: memory, microseconds.

    One gate lives in each router process and serves all its requests. Scores are shared with the
    other routers by a courier of the router's choice: it uploads `pending`, says so by
    `committed`, and hands what others made to `merge`, knowing from `seen` what is known here.
    """

    def __init__(
        self,
        pair: PairKey,
        settings: CalibrationSettings | None = None,
        *,
        origin: str = "local",
    ) -> None:
        self.pair = pair
        self.settings = settings or CalibrationSettings()
        self.origin = origin
        self.seen: dict[str, int] = {}
        self.dropped = 0
        self._sequence = 0
        self._outbox: deque[tuple[int, int, float]] = deque()
        self._prefix = f"{pair}>"
        self._restart()

    def _restart(self) -> None:
        settings = self.settings
        self._banks = Banks(settings)
        self._ledgers = Ledgers()
        self._rates = RateLog(settings.rate_tolerance)
        self._drift = ScoreDrift(settings.drift_false_alarm, settings.drift_period)
        self._decisions = 0
        self._alarms = 0
        self._new_alarms: deque[Alarm] = deque(maxlen=100)

    # ---------------------------------------------------------------------------- deciding

    def decide(
        self,
        score: Score,
        *,
        question: str,
        turn: int,
        coin: float,
        rate: float,
        coverage: str | None = None,
    ) -> Decision:
        """Judge one segment with what is known now; then learn from it.

        `coin` is uniform on [0, 1), from the candidate's seed; `rate` is the expected share of
        segments taken over; `coverage` None is the settings' own.
        """
        how = self._coverage(coverage)
        conformity = score.conformity
        if not math.isfinite(conformity):
            raise ScoreMissing(f"{question}, turn {turn}: the score is {conformity}")
        if not 0 < rate < 1:
            raise BadInput(
                f"takeover_rate: found {rate}; it must be between 0 and 1", field="takeover_rate"
            )
        banks, settings = self._banks, self.settings
        group = banks.group(turn)
        memory = banks.question(question)
        if not memory.tally.decisions:
            self._watch_scores(conformity, coin)
        rank = how.rank(banks, memory, group, conformity)
        ledger = self._ledgers.of(rate, how.name)
        by_turn = ledger.turn(group)
        threshold = 1 - rate
        if how.holds_overall:
            threshold += ledger.overall.correction(settings.overall_step)
        if how.holds_turn:
            threshold += by_turn.settling_correction(settings.turn_step)
        if how.holds_question:
            threshold += memory.tally.settling_correction(settings.question_step)
        decision = self._decision(how, rank, threshold, coin)
        taken_over = decision.taken_over
        ledger.overall.add(taken_over, rate)
        by_turn.add(taken_over, rate)
        memory.tally.add(taken_over, rate)
        self._decisions += 1
        self._watch_rate(turn, taken_over, rate)
        memory.add(group, conformity)
        self._learn(turn, conformity)
        return decision

    def _coverage(self, name: str | None) -> Coverage:
        how = COVERAGES.get(self.settings.coverage if name is None else name)
        if how is None:
            raise BadInput(
                f"coverage: found {name!r}; known are {', '.join(COVERAGES)}", field="coverage"
            )
        if how.name == "published" and not self._banks.fixed:
            raise BadInput(
                "coverage: `published` ranks among a calibration made once, and none was given",
                field="coverage",
            )
        return how

    def _decision(self, how: Coverage, rank: Rank, threshold: float, coin: float) -> Decision:
        higher, equal, total, size, group = rank
        paper = p_value(higher, equal, total)
        smoothed = p_smoothed(higher, equal, total, coin)
        return Decision(
            (smoothed if how.smoothed else paper) > threshold,
            paper,
            smoothed,
            threshold,
            coin,
            how.name,
            self._prefix + group,
            size,
            size < self.settings.cold_below,
        )

    def _learn(self, turn: int, conformity: float) -> None:
        """Put a score of this router's own into the banks and the outbox."""
        self._banks.add(self._banks.group(turn), conformity)
        self._sequence += 1
        if len(self._outbox) == self.settings.max_outbox:
            self._outbox.popleft()
            self.dropped += 1
        self._outbox.append((self._sequence, turn, conformity))

    def warm(self, question: str, scores: Iterable[Score]) -> None:
        """Fill a question's bank with first segments that are not themselves decided on."""
        memory = self._banks.question(question)
        for score in scores:
            memory.add(0, score.conformity)
            self._learn(0, score.conformity)

    def forget(self, question: str) -> None:
        """The question has ended: what was kept for it alone goes."""
        self._banks.questions.pop(question, None)

    # ----------------------------------------------------------------------------- sharing

    def pending(self, limit: int = 1_000) -> Batch:
        """The oldest scores not yet `committed`, to be uploaded together."""
        return Batch(
            self.pair, tuple(Record(self.origin, *entry) for entry in islice(self._outbox, limit))
        )

    def committed(self, sequence: int) -> None:
        """The store holds this router's scores up to `sequence`: they need not be kept."""
        while self._outbox and self._outbox[0][0] <= sequence:
            self._outbox.popleft()

    def merge(self, batch: Batch) -> int:
        """Take in what others made, each score once and own ones never; how many were new."""
        self._same_pair(batch.pair)
        new = 0
        for record in batch.records:
            if record.origin == self.origin or record.sequence <= self.seen.get(record.origin, 0):
                continue
            self._banks.add(self._banks.group(record.turn), record.conformity)
            self.seen[record.origin] = record.sequence
            new += 1
        return new

    def _same_pair(self, pair: PairKey) -> None:
        if pair != self.pair:
            raise BadInput(f"these scores belong to {pair}, this gate to {self.pair}")

    def fix(self, conformities: Iterable[float]) -> None:
        """Give `published` its calibration: scores that were made once and never change."""
        fixed = list(conformities)
        bank = Bank(max(1, len(fixed)))
        for conformity in fixed:
            bank.add(conformity)
        self._banks.fixed = bank

    def reset(self) -> None:
        """Forget all scores, rates and alarms. What is pending for the store goes too.

        What `published` was given stays: it was never learned here.
        """
        fixed = self._banks.fixed
        self._outbox.clear()
        self._restart()
        self._banks.fixed = fixed

    # --------------------------------------------------------------------------- reporting

    def _watch_scores(self, conformity: float, coin: float) -> None:
        evidence = self._drift.observe(conformity, coin)
        if evidence is not None:
            self._alarm(Alarm("scores", self._decisions, evidence, self._drift.limit))

    def _watch_rate(self, turn: int, taken_over: bool, rate: float) -> None:
        deviation = self._rates.observe(turn, taken_over, rate)
        if deviation is not None:
            self._alarm(Alarm("rate", self._decisions, deviation, self.settings.rate_tolerance))

    def _alarm(self, alarm: Alarm) -> None:
        self._alarms += 1
        self._new_alarms.append(alarm)

    def alarms(self) -> list[Alarm]:
        """The alarms since the last call, for the log and the event stream."""
        new = list(self._new_alarms)
        self._new_alarms.clear()
        return new

    def state(self) -> dict[str, Any]:
        """Banks, rates and drift as plain values for a report; scores are nats a token."""
        banks = [("all", self._banks.everything)]
        banks += [(self._banks.name(g), bank) for g, bank in sorted(self._banks.turns.items())]
        return {
            "pair": str(self.pair),
            "coverage": self.settings.coverage,
            "decisions": self._decisions,
            "questions": len(self._banks.questions),
            "banks": [
                {
                    "bank": self._prefix + group,
                    "size": len(bank),
                    "quantiles": {str(q): bank.quantile(q) for q in QUANTILES} if bank else {},
                }
                for group, bank in banks
            ],
            "rates": self._rates.state(),
            "drift": {**self._drift.state(), "alarms": self._alarms},
            "pending": len(self._outbox),
            "dropped": self.dropped,
            "seen": dict(self.seen),
        }
