"""A bank: the most recent scores, kept in order, so that a rank costs O(log n)."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from functools import partial

from sortedcontainers import SortedList

SMALL = 8192
"""Up to so many scores one list is quickest: inserting moves 32 KiB on average."""


class Bank:
    """Up to `window` conformity scores; when it is full, the oldest leaves for the newest."""

    __slots__ = ("_arrived", "_insert", "_left", "_ordered", "_right", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self._arrived: deque[float] = deque()
        self._ordered: SortedList | list[float]
        if window <= SMALL:
            self._ordered = []
            self._insert = partial(insort, self._ordered)
            self._left = partial(bisect_left, self._ordered)
            self._right = partial(bisect_right, self._ordered)
        else:
            self._ordered = SortedList()
            self._insert = self._ordered.add
            self._left = self._ordered.bisect_left
            self._right = self._ordered.bisect_right

    def __len__(self) -> int:
        return len(self._arrived)

    def add(self, score: float) -> None:
        """Take in one score (nats a token, higher is more plausible)."""
        if not math.isfinite(score):
            raise ValueError(f"a bank holds finite scores only, found {score}")
        if len(self._arrived) == self.window:
            del self._ordered[self._left(self._arrived.popleft())]
        self._arrived.append(score)
        self._insert(score)

    def counts(self, score: float) -> tuple[int, int]:
        """How many scores are higher than `score`, and how many equal it."""
        right = self._right(score)
        if not right or self._ordered[right - 1] != score:
            return len(self._arrived) - right, 0
        return len(self._arrived) - right, right - self._left(score)

    def quantile(self, share: float) -> float:
        """The score below which about `share` of a bank that is not empty lies."""
        return float(self._ordered[min(int(share * len(self)), len(self) - 1)])

    def recent(self, count: int) -> list[float]:
        """The `count` newest scores, oldest first."""
        return list(self._arrived)[-count:]
