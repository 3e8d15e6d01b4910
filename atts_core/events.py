"""What a run says while it goes on. Core emits these; streams, metrics and records consume them.

`at` is seconds since the run began, `seconds` what the caller waited for the stage, both on one
monotonic clock; `cost` is the engine's own account of the request, on the engine's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, get_args

from pydantic import TypeAdapter

from atts_core.acceptance import Decision
from atts_core.types import Answer, EngineCost, Finish

Ending: TypeAlias = Literal[
    "answered", "eos", "stop", "turns", "tokens", "context", "stopped", "cancelled", "failed"
]
"""Why a chain ended. The first six are its own end: it has a vote. `stop`: at a stop string of the
request; `stopped`: its policy gave it up."""

CUT_SHORT: frozenset[Ending] = frozenset({"stopped", "cancelled", "failed"})
"""Endings that are not a chain's own."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The question is rendered for both models; its candidates start now."""

    at: float
    candidates: int
    draft_prompt_tokens: int
    target_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Presampled:
    """A first segment that only fills the question's calibration bank.

    It fills nothing where it has no score: `scored` is 0 then, and `nll` None.
    """

    at: float
    candidate: int
    tokens: int
    scored: int
    nll: float | None
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
    """The target would have had its turn, but has no tokens left for this question."""

    at: float
    candidate: int
    turn: int


@dataclass(frozen=True, slots=True)
class SegmentWritten:
    """A model wrote a piece of the chain that stays, whatever comes."""

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
class Peeked:
    """The draft wrote on only to see where it goes: `text` is no part of the chain."""

    at: float
    candidate: int
    turn: int
    text: str
    tokens: int
    seconds: float
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class StepJudged:
    """The target graded the draft's segment in words: `said`, read as `grade`."""

    at: float
    candidate: int
    turn: int
    said: str
    grade: int
    accepted: bool
    tokens: int
    seconds: float
    cost: EngineCost


@dataclass(frozen=True, slots=True)
class ChainScored:
    """The target read a whole chain, and rates it (nats a token)."""

    at: float
    candidate: int
    nll: float
    tokens: int
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
class Standing:
    """A class of equivalent answers while the vote forms: how it reads, who gave it, who speaks."""

    answer: str
    candidates: tuple[int, ...]
    weight: float
    speaker: int


@dataclass(frozen=True, slots=True)
class Voted:
    """A chain's answer was counted: how the vote stands, the class that would win first."""

    at: float
    candidate: int
    standings: tuple[Standing, ...]


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
class Aborted:
    """What the requests of cancelled chains had cost that no other event tells of.

    They were under way, or had a result that was on its way to the chain.
    """

    at: float
    draft_cost: EngineCost
    target_cost: EngineCost


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
    | Peeked
    | StepJudged
    | ChainScored
    | CandidateFinished
    | Voted
    | DriftAlarm
    | Aborted
    | AnswerReady
    | RunFailed
)


def as_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object, its type under "event"."""
    return {"event": type(event).__name__, **asdict(event)}


def from_json(kept: Mapping[str, Any]) -> Event:
    """The event that `as_json` made this of, also after its way through JSON text."""
    event: Event = _adapter(kept["event"]).validate_python(
        {name: value for name, value in kept.items() if name != "event"}
    )
    return event


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter({known.__name__: known for known in get_args(Event)}[kind])
