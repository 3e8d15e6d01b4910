"""The gate's drift alarms on their way out: to the log, to the run's events, to the report."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from atts_core.acceptance import Gate
from atts_core.events import DriftAlarm

log = logging.getLogger(__name__)

REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class NotedAlarm:
    """An alarm as the report shows it: the time of day it was raised, and what it says."""

    time: datetime
    kind: str
    decision: int
    evidence: float
    limit: float
    message: str


class DriftWatch:
    """Asks the gate after each decision; the last alarms stay for the calibration endpoint."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.noted: deque[NotedAlarm] = deque(maxlen=REMEMBERED)

    def check(self, at: float) -> list[DriftAlarm]:
        """What is new, as events at `at` (seconds since the run began)."""
        events = []
        for alarm in self._gate.alarms():
            log.warning("calibration drift: %s", alarm)
            self.noted.append(
                NotedAlarm(
                    datetime.now(UTC), alarm.kind, alarm.at, alarm.evidence, alarm.limit, str(alarm)
                )
            )
            events.append(DriftAlarm(at, alarm.kind, alarm.at, alarm.evidence, alarm.limit))
        return events
