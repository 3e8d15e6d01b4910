"""From a score to a decision: accept the draft's segment, or let the target take over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atts_core.calibration.bank import Bank
from atts_core.calibration.keys import BankKey, PairKey, Record
from atts_core.calibration.pvalues import p_smoothed, p_value
from atts_core.calibration.settings import CalibrationSettings
from atts_core.types import Score


@dataclass(frozen=True, slots=True)
class Decision:
    """One segment's verdict and everything it rests on.

    `p_value` is the paper's; `p_smoothed`, drawn with `coin`, is the one compared with
    `threshold`: the segment is taken over when it is larger. `bank` names the scores it was
    ranked among, `bank_size` how many there were, `cold` whether these were too few to say much.
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
    other routers by a courier of the router's choice: it takes `pending`, tells `committed`, and
    hands what others made to `merge`.
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
        self._bank = Bank(self.settings.window)
        self._offsets: dict[tuple[float, str], float] = {}
        self._outbox: deque[Record] = deque(maxlen=self.settings.outbox)
        self._sequence = 0
        self.seen: dict[str, int] = {}

    def decide(
        self,
        score: Score,
        *,
        question: str,
        turn: int,
        coin: float,
        rate: float | None = None,
        coverage: str | None = None,
    ) -> Decision:
        """Judge one segment with what is known now; then learn from it.

        `coin` is uniform on [0, 1), from the candidate's seed. `rate` and `coverage` are the
        request's, where it has its own.
        """
        rate = self.settings.takeover_rate if rate is None else rate
        name = self.settings.coverage if coverage is None else coverage
        conformity = score.conformity
        higher, equal = self._bank.counts(conformity)
        size = len(self._bank)
        smoothed = p_smoothed(higher, equal, size, coin)
        offset = self._offsets.get((rate, name), 0.0)
        threshold = 1 - rate + offset
        taken_over = smoothed > threshold
        self._offsets[rate, name] = offset + self.settings.feedback * (taken_over - rate)
        self._bank.add(conformity)
        self._sequence += 1
        self._outbox.append(Record(self.origin, self._sequence, turn, conformity))
        return Decision(
            taken_over=taken_over,
            p_value=p_value(higher, equal, size),
            p_smoothed=smoothed,
            threshold=threshold,
            coin=coin,
            coverage=name,
            bank=str(BankKey(self.pair, "all")),
            bank_size=size,
            cold=size < self.settings.cold_below,
        )

    def forget(self, question: str) -> None:
        """The question has ended: what was kept for it alone goes."""

    def pending(self, limit: int = 1_000) -> list[Record]:
        """The oldest scores not yet `committed`, to be uploaded together."""
        return [record for record, _ in zip(self._outbox, range(limit), strict=False)]

    def committed(self, sequence: int) -> None:
        """The store holds this router's scores up to `sequence`: they need not be kept."""
        while self._outbox and self._outbox[0].sequence <= sequence:
            self._outbox.popleft()

    def merge(self, records: Iterable[Record]) -> int:
        """Take in what other routers made; each score once, own ones never. How many were new."""
        new = 0
        for record in records:
            if record.origin == self.origin or record.sequence <= self.seen.get(record.origin, 0):
                continue
            self.seen[record.origin] = record.sequence
            self._bank.add(record.conformity)
            new += 1
        return new

    def state(self) -> dict[str, Any]:
        """Banks, rates and drift, as plain values for a report."""
        return {
            "pair": str(self.pair),
            "banks": [{"group": "all", "size": len(self._bank)}],
            "uncommitted": len(self._outbox),
        }
