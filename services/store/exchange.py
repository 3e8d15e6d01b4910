"""What travels between a router and the store."""

from __future__ import annotations

from dataclasses import dataclass

from atts_core.calibration.keys import Batch


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a router has read: a position, and in which life of which database."""

    database: str
    generation: int
    position: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a router gets back.

    Its own scores are committed up to `committed`; `batch` holds what others made beyond its
    cursor; `cursor` is where it goes on, at once where there is `more`. With `forget`, the pair
    was reset: everything that was known before `batch` has to go. `database` is where scores are
    kept, without a password, and `durable` whether they outlive the store.
    """

    committed: int
    batch: Batch
    cursor: Cursor
    more: bool = False
    forget: bool = False
    database: str = ""
    durable: bool = False
