"""The knobs of calibration: which scores a segment is ranked among, and how the rate is held."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Coverage = Literal["adaptive", "turn", "marginal", "conditional", "published"]


class CalibrationSettings(BaseModel):
    """One router's gate. A request may choose its own takeover rate and coverage."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    takeover_rate: float = Field(
        default=0.4, gt=0, lt=1, description="expected share of segments the target takes over"
    )
    coverage: Coverage = Field(
        default="adaptive",
        description="which scores a segment is ranked among, see docs/calibration.md",
    )
    window: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="scores a bank holds at most; the oldest leave first",
    )
    feedback: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="step by which a threshold moves after each decision; 0: no rate feedback",
    )
    cold_below: int = Field(
        default=32, ge=0, description="a decision says `cold` where its bank holds fewer scores"
    )
    outbox: int = Field(
        default=100_000,
        ge=1,
        description="scores kept for the store while it is away; the oldest leave",
    )
