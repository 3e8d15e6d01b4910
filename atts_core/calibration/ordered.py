"""A sorted list of floats that stays fast when it is long: a rank or a change in a microsecond."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

CHUNK = 2048
"""Floats a chunk holds at most: moving half of them costs less than one step of Python."""


class Ordered:
    """Sorted floats in chunks: O(log n) comparisons find a place, and one short chunk moves.

    How many floats lie in the chunks before is a sum of their sizes: at 10⁵ floats less than a
    hundred numbers, a fraction of a microsecond.
    """

    __slots__ = ("_chunk", "_chunks", "_last", "_sizes")

    def __init__(self, chunk: int = CHUNK) -> None:
        self._chunk = chunk
        self._chunks: list[list[float]] = []
        self._last: list[float] = []
        self._sizes: list[int] = []

    def __len__(self) -> int:
        return sum(self._sizes)

    def __getitem__(self, index: int) -> float:
        for chunk in self._chunks:
            if index < len(chunk):
                return chunk[index]
            index -= len(chunk)
        raise IndexError("no float has so high a rank")

    def add(self, value: float) -> None:
        last = self._last
        if not last:
            self._chunks.append([value])
            self._sizes.append(1)
            last.append(value)
            return
        at = bisect_left(last, value)
        if at == len(last):
            at -= 1
        chunk = self._chunks[at]
        insort(chunk, value)
        last[at] = chunk[-1]
        self._sizes[at] += 1
        if len(chunk) > self._chunk:
            half = len(chunk) // 2
            self._chunks[at : at + 1] = chunk[:half], chunk[half:]
            self._last[at : at + 1] = chunk[half - 1], chunk[-1]
            self._sizes[at : at + 1] = half, len(chunk) - half

    def remove(self, value: float) -> None:
        """Take out one `value`, which must be among them."""
        at = bisect_left(self._last, value)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, value)]
        self._sizes[at] -= 1
        if chunk:
            self._last[at] = chunk[-1]
        else:
            del self._chunks[at], self._last[at], self._sizes[at]

    def counts(self, value: float) -> tuple[int, int]:
        """How many floats are lower than `value`, and how many equal it."""
        last = self._last
        at = bisect_left(last, value)
        if at == len(last):
            return sum(self._sizes), 0
        chunk = self._chunks[at]
        left = bisect_left(chunk, value)
        lower = sum(self._sizes[:at]) + left
        if chunk[left] != value:
            return lower, 0
        end = bisect_right(last, value)
        right = sum(self._sizes[:end])
        if end < len(last):
            right += bisect_right(self._chunks[end], value)
        return lower, right - lower
