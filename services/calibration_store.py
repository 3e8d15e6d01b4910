"""The calibration store: every router's scores, merged, each exactly once."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from atts_core.calibration.keys import Record


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a router gets back: its own scores are committed up to `committed`, and what others
    made since its `cursor`."""

    committed: int
    records: list[Record]
    cursor: int


class CalibrationStore:
    """Keeps the newest `window` records of each pair and hands them to every router but their own.

    A record's place in the pair's order of arrival is its cursor; a router that comes with an old
    cursor gets what is still kept.
    """

    def __init__(self, window: int) -> None:
        self._records: defaultdict[str, deque[tuple[int, Record]]] = defaultdict(
            lambda: deque(maxlen=window)
        )
        self._committed: dict[tuple[str, str], int] = {}
        self._arrived: defaultdict[str, int] = defaultdict(int)

    def exchange(self, pair: str, origin: str, new: list[Record], cursor: int) -> Exchange:
        """Take `new` in (what was there before is left out), give what is newer than `cursor`."""
        committed = self._committed.get((pair, origin), 0)
        for record in new:
            if record.sequence > committed:
                self._arrived[pair] += 1
                self._records[pair].append((self._arrived[pair], record))
                committed = record.sequence
        self._committed[pair, origin] = committed
        others = [r for at, r in self._records[pair] if at > cursor and r.origin != origin]
        return Exchange(committed, others, self._arrived[pair])
