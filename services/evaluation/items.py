"""One question of a dataset."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A question as it is asked, its true answer, and an id that no other has."""

    id: str
    question: str
    answer: str
