"""Shares with their intervals, and how well a number tells two groups apart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Successes among trials."""

    right: int
    of: int

    @property
    def rate(self) -> float:
        return self.right / self.of if self.of else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval (Wilson 1927)."""
        n, p, z = max(self.of, 1), self.right / max(self.of, 1), 1.96
        middle, spread = p + z * z / (2 * n), z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
        return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.rate:.3f} ({low:.3f} to {high:.3f}; {self.right} of {self.of})"


def auroc(above: Sequence[float], below: Sequence[float]) -> float:
    """The chance that one of `above` exceeds one of `below`; ties count half."""
    if not above or not below:
        return float("nan")
    ranked = sorted(below)
    wins = sum(bisect_left(ranked, value) + bisect_right(ranked, value) for value in above)
    return wins / (2 * len(above) * len(below))
