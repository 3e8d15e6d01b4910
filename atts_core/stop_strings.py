"""Texts at which an answer ends: they belong to no answer, and readers never see them."""

from __future__ import annotations


def cut(text: str, stop: tuple[str, ...], since: int = 0) -> int | None:
    """Where the first stop string of `text` begins; None where there is none.

    Before `since` none is complete: one that two pieces of a text share is found all the same.
    """
    if not stop:
        return None
    begin = max(0, since - max(map(len, stop)) + 1)
    return min((at for one in stop if (at := text.find(one, begin)) >= 0), default=None)


def certain(text: str, stop: tuple[str, ...]) -> int:
    """How much of `text` is surely no part of a stop string, whatever follows it."""
    found = cut(text, stop)
    if found is not None:
        return found
    begun = (
        size
        for one in stop
        for size in range(min(len(one) - 1, len(text)), 0, -1)
        if text.endswith(one[:size])
    )
    return len(text) - max(begun, default=0)
