"""What a run says while it goes on. Core emits these; streams, metrics and records consume them.

`at` is seconds since the run began, `seconds` what the caller waited for the stage, both on one
monotonic clock; `cost` is the engine's own account of the request, on the engine's clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from atts_core.acceptance import Decision
from atts_core.types import Answer, EngineCost, Finish

Ending: TypeAlias = Literal["answered", "eos", "turns", "tokens", "context", "cancelled", "failed"]
"""Why a chain ended. The first five are its own end: it has a vote."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The question is rendered for both models; its candidates start now."""

    at: float
    candidates: int
    draft_prompt_tokens: int
    target_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Presampled:
    """A first segment that only fills the question's calibration bank."""

    at: float
    candidate: int
    tokens: int
    scored: int
    nll: float
    seconds: float
    draft_cost: EngineCost
    target_cost: EngineCost


@dataclass(frozen=True, slots=True)
class CandidateStarted:
    at: float
    candidate: int


@dataclass(frozen=True, slots=True)
class SegmentDrafted:
    at: float
    candidate: int
    turn: int
    text: str
    tokens: int
    finish: Finish
    seconds: float
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class SegmentScored:
    at: float
    candidate: int
    turn: int
    nll: float
    tokens: int
    seconds: float
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class Decided:
    at: float
    candidate: int
    turn: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The target continued the chain; where `replaces`, the draft's segment is gone.

    `waited` is seconds for one of the takeover slots, before `seconds` begin.
    """

    at: float
    candidate: int
    turn: int
    cue: str
    text: str
    tokens: int
    replaces: bool
    waited: float
    seconds: float
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class TakeoverSkipped:
    """The gate rejected the segment, but the target has no tokens left for this question."""

    at: float
    candidate: int
    turn: int


@dataclass(frozen=True, slots=True)
class SegmentWritten:
    """A model that works alone wrote a piece of the chain."""

    at: float
    candidate: int
    turn: int
    model: Literal["draft", "target"]
    text: str
    tokens: int
    finish: Finish
    seconds: float
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class CandidateFinished:
    at: float
    candidate: int
    ending: Ending
    answer: str | None
    turns: int
    takeovers: int
    tokens: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """The gate saw its scores or its rate drift; `decision` counts the gate's decisions.

    It is told to the run whose decision raised it, and concerns the gate, not that run alone.
    """

    at: float
    kind: Literal["scores", "rate"]
    decision: int
    evidence: float
    limit: float


@dataclass(frozen=True, slots=True)
class AnswerReady:
    at: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class RunFailed:
    at: float
    error: str


Event: TypeAlias = (
    RunStarted
    | Presampled
    | CandidateStarted
    | SegmentDrafted
    | SegmentScored
    | Decided
    | TakenOver
    | TakeoverSkipped
    | SegmentWritten
    | CandidateFinished
    | DriftAlarm
    | AnswerReady
    | RunFailed
)


def as_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object, its type under "event"."""
    return {"event": type(event).__name__, **asdict(event)}
