"""A bank: the most recent scores, kept in order, so that a rank costs O(log n)."""

from __future__ import annotations

import math
from collections import deque

from atts_core.calibration.ordered import Ordered


class Bank:
    """Up to `window` conformity scores; when it is full, the oldest leaves for the newest."""

    __slots__ = ("_arrived", "_ordered", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self._arrived: deque[float] = deque()
        self._ordered = Ordered()

    def __len__(self) -> int:
        return len(self._arrived)

    def add(self, score: float) -> None:
        """Take in one score (nats a token, higher is more plausible)."""
        if not math.isfinite(score):
            raise ValueError(f"a bank holds finite scores only, found {score}")
        if len(self._arrived) == self.window:
            self._ordered.remove(self._arrived.popleft())
        self._arrived.append(score)
        self._ordered.add(score)

    def counts(self, score: float) -> tuple[int, int]:
        """How many scores are higher than `score`, and how many equal it."""
        lower, equal = self._ordered.counts(score)
        return len(self._arrived) - lower - equal, equal

    def quantile(self, share: float) -> float:
        """The score below which about `share` of a bank that is not empty lies."""
        return self._ordered[min(int(share * len(self)), len(self) - 1)]

    def recent(self, count: int) -> list[float]:
        """The `count` newest scores, oldest first."""
        return list(self._arrived)[-count:]
