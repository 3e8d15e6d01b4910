"""One question's events folded into what an evaluation keeps of it.

Three accounts of time, which differ:

- *busy spans*: when an engine worked for this question, on the asker's clock. Their union over all
  questions that ran together is the engine's own time, however many requests it served at once.
- *working*, *scoring*: the same seconds, summed over requests: what the candidates waited for work.
- *waiting*: what the candidates waited for others: in an engine's queue, for a takeover slot, at a
  barrier, and for the router's own attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from atts_core.events import CUT_SHORT

Span: TypeAlias = tuple[float, float]
"""From and to, in seconds."""

STAGES: Mapping[str, tuple[str, str]] = {
    "SegmentDrafted": ("draft", "draft"),
    "SegmentScored": ("target", "score"),
    "TakenOver": ("target", "takeover"),
    "Peeked": ("draft", "peek"),
    "StepJudged": ("target", "judge"),
    "ChainScored": ("target", "score"),
}
"""Events of one engine request: the model that served it, and what it was for."""

_APART = 0.002
"""Seconds between two spans that are kept apart."""


@dataclass(slots=True)
class ChainAccount:
    """One candidate: what was written for it, and how it ended."""

    began: float = 0.0
    ended: float = 0.0
    written: int = 0
    kept: int = 0
    """Tokens of the chain itself; what is written beyond them was discarded."""
    asked: float = 0.0
    """Seconds in requests and takeover slots."""
    answer: str | None = None
    ending: str = "cancelled"
    turns: int = 0
    takeovers: int = 0
    timeline: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """It ended by itself."""
        return self.ending not in CUT_SHORT


@dataclass(slots=True)
class Account:
    """The fold. `events` are the run's, as JSON objects; seconds count from the run's start."""

    chains: dict[int, ChainAccount] = field(default_factory=dict)
    busy: dict[str, list[Span]] = field(default_factory=dict)
    """By `model/replica`."""
    working: dict[str, float] = field(default_factory=lambda: {"draft": 0.0, "target": 0.0})
    scoring: float = 0.0
    queued: float = 0.0
    slots: float = 0.0
    presampled: int = 0
    aborted: int = 0
    """Tokens written for chains that were cancelled, of which no other event tells."""
    turns: dict[int, list[int]] = field(default_factory=dict)
    """By turn: decisions, and how many of them went to the target."""
    _decided_at: dict[tuple[int, int], bool] = field(default_factory=dict)
    """By candidate and turn, whether the decision there has been counted with its outcome."""

    def add(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind in STAGES:
            self._request(event, *STAGES[kind])
        elif kind == "SegmentWritten":
            self._request(event, event["model"], event["model"])
        elif kind == "Presampled":
            self.presampled += event["tokens"]
            rating = event["target_cost"]["busy"]
            self._busy("target", event["target_cost"], event["at"], rating)
            drafting = event["draft_cost"]["busy"]
            self._busy("draft", event["draft_cost"], event["at"] - rating, drafting)
            self.scoring += rating
        elif kind == "Aborted":
            for cost in (event["draft_cost"], event["target_cost"]):
                self.aborted += cost["written_tokens"]
        elif kind == "Decided":
            self._decided(event, event["decision"]["taken_over"])
        elif kind == "CandidateStarted":
            self._chain(event).began = event["at"]
        elif kind == "CandidateFinished":
            chain = self._chain(event)
            chain.ended, chain.kept = event["at"], event["tokens"]
            chain.answer, chain.ending = event["answer"], event["ending"]
            chain.turns, chain.takeovers = event["turns"], event["takeovers"]
        if kind == "StepJudged":
            self._decided(event, not event["accepted"])
        elif kind == "Peeked":
            self._decided(event, False, final=False)
        elif kind == "TakenOver":
            self._taken_over(event)

    def _chain(self, event: Mapping[str, Any]) -> ChainAccount:
        return self.chains.setdefault(event["candidate"], ChainAccount())

    def _request(self, event: Mapping[str, Any], model: str, stage: str) -> None:
        chain, cost, at = self._chain(event), event["cost"], event["at"]
        waited = event.get("waited", 0.0)
        chain.asked += event["seconds"] + waited
        if stage != "score":
            chain.written += event["tokens"]
        self.slots += waited
        self.queued += min(cost["queued"], event["seconds"])
        seconds = min(cost["busy"], event["seconds"])
        self._busy(model, cost, at, seconds)
        if stage == "score":
            self.scoring += seconds
        chain.timeline.append((at - event["seconds"], at, stage))

    def _busy(self, model: str, cost: Mapping[str, Any], end: float, seconds: float) -> None:
        self.working[model] += seconds
        place = f"{model}/{cost['replica']}" if cost["replica"] else model
        self.busy.setdefault(place, []).append((end - seconds, end))

    def _decided(self, event: Mapping[str, Any], taken_over: bool, *, final: bool = True) -> None:
        row = self.turns.setdefault(event["turn"], [0, 0])
        row[0] += 1
        row[1] += taken_over
        self._decided_at[event["candidate"], event["turn"]] = final

    def _taken_over(self, event: Mapping[str, Any]) -> None:
        """Where no event says what was decided, the takeover does.

        A peek is a decision, whose outcome is a takeover or none; so is a takeover without one.
        """
        final = self._decided_at.get((event["candidate"], event["turn"]))
        if final is None:
            self._decided(event, True)
        elif not final:
            self.turns[event["turn"]][1] += 1
            self._decided_at[event["candidate"], event["turn"]] = True

    @property
    def wasted(self) -> int:
        """Written tokens that are in no chain that ended by itself."""
        wasted = sum(c.written - (c.kept if c.whole else 0) for c in self.chains.values())
        return self.presampled + self.aborted + max(0, wasted)

    @property
    def elsewhere(self) -> float:
        """Seconds that chains with an end of their own spent in no request: at a barrier, say."""
        return sum(
            max(0.0, chain.ended - chain.began - chain.asked)
            for chain in self.chains.values()
            if chain.whole
        )

    def as_row(self, began: float, *, timeline: bool) -> dict[str, Any]:
        """What is kept; spans on the clock on which the run began at `began`."""
        return {
            "chains": [
                {
                    "candidate": index,
                    "answer": chain.answer,
                    "ending": chain.ending,
                    "turns": chain.turns,
                    "takeovers": chain.takeovers,
                    "tokens": chain.kept,
                    **({"timeline": _rounded(chain.timeline)} if timeline else {}),
                }
                for index, chain in sorted(self.chains.items())
            ],
            "by_turn": {str(turn): row for turn, row in sorted(self.turns.items())},
            "wasted_tokens": self.wasted,
            "busy": {
                place: [[round(began + a, 4), round(began + b, 4)] for a, b in union(spans, _APART)]
                for place, spans in sorted(self.busy.items())
            },
            "request_seconds": {
                "draft": round(self.working["draft"], 4),
                "target": round(self.working["target"], 4),
                "scoring": round(self.scoring, 4),
                "waiting": round(self.queued + self.slots + self.elsewhere, 4),
            },
        }


def _rounded(timeline: list[tuple[float, float, str]]) -> list[list[Any]]:
    return [[round(a, 4), round(b, 4), stage] for a, b, stage in timeline]


def union(spans: Iterable[Span], apart: float = 0.0) -> list[Span]:
    """Spans that overlap, or lie at most `apart` from each other, as one; in their order."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1] + apart:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined


def length(spans: Iterable[Span]) -> float:
    """Seconds that at least one span covers."""
    return sum(end - begin for begin, end in union(spans))
