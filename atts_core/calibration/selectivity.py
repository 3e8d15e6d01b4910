"""Selectivity: does the gate take over the segments that most need it?

A gate that only alternates holds every rate and chooses nothing. So rates are reported together
with how well decisions follow the scores among the candidates of one question at one turn.
"""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_GROUP = 4
"""Fewer segments of one question and turn say nothing about order."""


def overlap(groups: Sequence[Sequence[tuple[float, bool]]], rate: float) -> float | None:
    """Of the segments a barrier would have picked, the share that was taken over.

    A group is the (nll, taken over) of one question's candidates at one turn; a barrier waits for
    all of them and picks the worst `rate` of each. Equal scores are as good as each other.
    """
    hits = picks = 0
    for group in groups:
        if len(group) < SMALLEST_GROUP:
            continue
        count = max(1, round(rate * len(group)))
        cut = sorted((nll for nll, _ in group), reverse=True)[count - 1]
        worse = sum(1 for nll, _ in group if nll > cut)
        hits += sum(1 for nll, taken in group if taken and nll > cut)
        hits += min(count - worse, sum(1 for nll, taken in group if taken and nll == cut))
        picks += count
    return hits / picks if picks else None


def auroc(groups: Sequence[Sequence[tuple[float, bool]]]) -> float | None:
    """How often a segment taken over has the higher nll than one that was not, in its group.

    The mean over groups that hold both kinds; equal scores count one half.
    """
    areas = []
    for group in groups:
        taken = [nll for nll, over in group if over]
        kept = [nll for nll, over in group if not over]
        if len(group) < SMALLEST_GROUP or not taken or not kept:
            continue
        won = sum((a > b) + 0.5 * (a == b) for a in taken for b in kept)
        areas.append(won / (len(taken) * len(kept)))
    return sum(areas) / len(areas) if areas else None
