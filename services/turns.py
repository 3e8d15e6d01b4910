"""When a question that found no room should come again: refused ones get turns, one after another.

Were all told the same second, all would come back in it, and be refused again: a server whose
places are taken would spend its time on saying so.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

LONGEST = 10.0
"""Seconds that anyone is told to wait at most: many of those before them will not come back."""
_WEIGHT = 0.1
"""Of the newest question in the mean of how long one holds its place."""


class Turns:
    """Hands out moments at which one of `places` should be free, as far as is known now."""

    def __init__(self, places: int, now: Callable[[], float] = monotonic) -> None:
        self._places = places
        self._now = now
        self._seconds = 1.0
        self._last = now()

    def ended(self, seconds: float) -> None:
        """A question has held its place for so long."""
        self._seconds += _WEIGHT * (seconds - self._seconds)

    def wait(self) -> float:
        """Seconds that the next one to be refused should wait."""
        now = self._now()
        turn = max(now, self._last) + self._seconds / self._places
        self._last = min(turn, now + LONGEST)
        return self._last - now
