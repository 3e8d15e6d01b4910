"""`GET /v1/atts/calibration`: what the router's gate knows, holds and shares."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.openapi import GUARDED, errors
from services.service import Service


class BankState(BaseModel):
    """One bank of scores."""

    bank: str = Field(description="the pair and the group whose scores these are")
    size: int
    quantiles: dict[str, float] = Field(
        description="score below which that share of the bank lies (nats a token, the negative of "
        "the mean negative log-likelihood: higher is more plausible)"
    )


class RateState(BaseModel):
    """Takeovers that happened against takeovers that were promised."""

    n: int = Field(description="decisions")
    rate: float = Field(description="share of segments that the target took over")
    nominal: float = Field(description="mean of the takeover rates that were asked for")


class TurnRate(RateState):
    turn: int


class RatesState(BaseModel):
    """Realised and nominal takeover rates of this router's decisions."""

    overall: RateState
    window: RateState | None = Field(description="the last full block of 200 decisions")
    by_turn: list[TurnRate]


class DriftState(BaseModel):
    """The conformal test martingale on each question's first score."""

    martingale: float
    highest: float = Field(description="its highest value in this period")
    limit: float = Field(description="an alarm is raised there: 1 / the false-alarm probability")
    questions: int = Field(description="questions seen in this period")
    period: int = Field(description="questions after which the test begins anew")
    alarms: int = Field(description="alarms of both kinds since the router's start or reset")


class AlarmState(BaseModel):
    """A drift alarm."""

    time: datetime
    kind: Literal["scores", "rate"]
    decision: int = Field(description="how many decisions the router had made")
    evidence: float
    limit: float
    message: str


class StoreState(BaseModel):
    """The router's exchange with the store that all routers share."""

    url: str | None = Field(description="the database, without a password; null: not known yet")
    durable: bool = Field(description="whether its scores outlive the store")
    snapshot_age_seconds: float | None = Field(description="since the last exchange")
    store_error: str | None = Field(description="why the newest exchange failed")
    pending: int = Field(description="scores of this router that the store has not confirmed yet")
    dropped: int = Field(description="scores lost to the others: the store was away for too long")


class RecordState(BaseModel):
    """The trace that this router writes."""

    file: str
    written: int
    dropped: int
    error: str | None


class CalibrationState(BaseModel):
    """Calibration as this router sees it: banks are shared by all routers, rates are its own."""

    router: str = Field(description="the router that answers: its name among the scores' origins")
    pair: str = Field(description="draft>target>template>score definition")
    coverage: str = Field(description="the coverage of requests that name none")
    decisions: int
    questions: int = Field(description="questions that are remembered on their own")
    sources: int = Field(description="other routers, and imports, whose scores are in the banks")
    banks: list[BankState]
    rates: RatesState
    drift: DriftState
    alarms: list[AlarmState] = Field(description="the last ones, the newest last")
    store: StoreState
    recording: RecordState | None


class Calibrated(Protocol):
    """What the route needs of the backend."""

    service: Service

    def store(self) -> dict[str, Any]: ...


def calibration_routes(backend: Calibrated) -> APIRouter:
    """The route over `backend`."""
    routes = APIRouter(tags=["calibration"])

    @routes.get(
        "/v1/atts/calibration",
        response_description="Banks, rates by turn and window, drift, and the shared store",
        responses=errors(*GUARDED),
    )
    async def calibration() -> CalibrationState:
        """Whether the takeover rate holds, and what it rests on."""
        return CalibrationState.model_validate(report(backend))

    return routes


def report(backend: Calibrated) -> dict[str, Any]:
    """The state as plain values."""
    service = backend.service
    gate = service.gate.state()
    recorder = service.recorder
    return {
        **gate,
        "router": service.gate.origin,
        "sources": len(gate["seen"]),
        "alarms": [asdict(alarm) for alarm in service.drift.noted],
        "store": {**backend.store(), "pending": gate["pending"], "dropped": gate["dropped"]},
        "recording": None if recorder is None else recorder.state(),
    }
