"""A run's time, split into stages that add up to its latency.

Candidates run at once, so their seconds cannot be added. The split follows one of them: the
candidate whose end decided the answer, that is the last that ended by itself before the answer
(the last to end at all, where none did). Its time line, from the call to the answer, falls into

    admission       until the candidate started: both prompts rendered, the policy looked at
    presample       the warm-up of the question's bank, where that is on
    X_queue, X      each request to an engine: what the engine says it waited, and the rest;
                    X is draft, score, takeover (whatever the target writes), judge
    barrier         from a score to the decision on it: microseconds without a barrier
    slack           everything else: gaps between stages, comparing answers, cancelling the rest

`takeover_queue` includes the wait for one of the takeover slots. A stage ends when its event says
so and begins when the stage before it ended at the earliest: nothing is counted twice, and the sum
is the latency exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from atts_core import events
from atts_core.types import EngineCost

STAGES = (
    "admission",
    "presample",
    "draft_queue",
    "draft",
    "score_queue",
    "score",
    "barrier",
    "takeover_queue",
    "takeover",
    "judge_queue",
    "judge",
    "slack",
)


@dataclass(slots=True)
class TimeLine:
    """One candidate's seconds by stage up to `at`."""

    at: float
    stages: dict[str, float] = field(default_factory=dict)
    scored: bool = False
    waited: float = 0.0
    """Of the newest decision: seconds since its score."""

    def spend(self, stage: str, until: float) -> None:
        """All time up to `until` belongs to `stage`."""
        if until > self.at:
            self.stages[stage] = self.stages.get(stage, 0.0) + until - self.at
            self.at = until

    def request(
        self, stage: str, at: float, seconds: float, cost: EngineCost, waited: float = 0.0
    ) -> None:
        """A request to an engine of `seconds` that ended at `at`, after `waited` for a slot."""
        begun = at - seconds
        self.spend("slack", begun - waited)
        self.spend(f"{stage}_queue", begun + min(cost.queued, seconds))
        self.spend(stage, at)
        self.scored = False


@dataclass(slots=True)
class Split:
    """A fold over a run's events."""

    _began: float = 0.0
    _presampled: float = 0.0
    _lines: dict[int, TimeLine] = field(default_factory=dict)
    _deciding: int | None = None
    _own_end: bool = False

    def add(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._began = event.at
            case events.Presampled():
                self._presampled = event.at
            case events.CandidateStarted():
                line = self._lines[event.candidate] = TimeLine(0.0)
                line.spend("admission", self._began)
                line.spend("presample", self._presampled)
                line.spend("admission", event.at)
            case events.SegmentDrafted() | events.Peeked():
                self._request("draft", event)
            case events.SegmentScored():
                self._request("score", event)
                self._lines[event.candidate].scored = True
            case events.ChainScored():
                self._request("score", event)
            case events.Decided():
                line = self._lines[event.candidate]
                line.waited = event.at - line.at if line.scored else 0.0
                line.spend("barrier" if line.scored else "slack", event.at)
                line.scored = False
            case events.TakenOver():
                self._lines[event.candidate].request(
                    "takeover", event.at, event.seconds, event.cost, event.waited
                )
            case events.SegmentWritten():
                self._request("draft" if event.model == "draft" else "takeover", event)
            case events.StepJudged():
                self._request("judge", event)
            case events.CandidateFinished():
                own = event.ending not in events.CUT_SHORT
                if own or not self._own_end:
                    self._deciding, self._own_end = event.candidate, own
            case _:
                pass

    def _request(
        self,
        stage: str,
        event: events.SegmentDrafted
        | events.Peeked
        | events.SegmentScored
        | events.ChainScored
        | events.SegmentWritten
        | events.StepJudged,
    ) -> None:
        self._lines[event.candidate].request(stage, event.at, event.seconds, event.cost)

    def waited(self, candidate: int) -> float:
        """How long the candidate's newest decision was waited for, in seconds."""
        return max(0.0, self._lines[candidate].waited)

    def seconds(self, at: float) -> dict[str, float]:
        """Seconds by stage of a run that ended at `at`; all stages, and they add up to `at`."""
        found = {stage: 0.0 for stage in STAGES}
        if self._deciding is None:
            return found | {"admission": at}
        line = self._lines[self._deciding]
        found |= line.stages
        found["slack"] += max(0.0, at - line.at)
        return found
