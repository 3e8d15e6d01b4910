"""The knobs of calibration: which scores a segment is ranked among, and how the rate is held."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from atts_core.errors import BadInput

CoverageName = Literal["adaptive", "turn", "marginal", "conditional", "published"]


class CalibrationSettings(BaseModel):
    """One router's gate. How the numbers were chosen: docs/calibration.md.

    The three steps are the rate feedback; all three at 0 is pure conformal prediction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    coverage: CoverageName = Field(
        default="adaptive",
        description="which scores a segment is ranked among, where a request names none",
    )
    overall_step: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="feedback on all decisions: 1/step takeovers too many or too few are "
        "corrected with full force; 0: none",
    )
    turn_step: float = Field(
        default=0.25, ge=0, le=1, description="the same for the decisions of each turn"
    )
    question_step: float = Field(
        default=0.18, ge=0, le=1, description="the same for the decisions of each question"
    )
    neighbour_weight: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="`adaptive`: for how many scores of the same question and turn count all of "
        "the question's other turns together, and all other questions' same turn together",
    )
    turns_per_bank: int = Field(
        default=1, ge=1, le=1000, description="consecutive turns that share one bank"
    )
    window: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="scores a bank holds at most; the oldest leave first",
    )
    cold_below: int = Field(
        default=32, ge=0, description="a decision says `cold` where its bank holds fewer scores"
    )
    presample: bool = Field(
        default=False,
        description="score one extra first segment a candidate before a question's first "
        "decision, to fill the question's bank (the paper's warm-up)",
    )
    max_questions: int = Field(
        default=4096, ge=1, description="questions remembered at once; the longest unused leave"
    )
    max_outbox: int = Field(
        default=100_000,
        ge=1,
        description="scores kept for the store while it is away; the oldest leave",
    )
    drift_false_alarm: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="probability of a false drift alarm in each `drift_period` questions",
    )
    drift_period: int = Field(
        default=1000, ge=10, le=100_000, description="questions after which the drift test restarts"
    )
    rate_tolerance: float = Field(
        default=0.15,
        gt=0,
        le=1,
        description="alarm where the rate of 200 consecutive decisions is off by more",
    )


def budget_rate(budget: int, candidates: int) -> float:
    """The takeover rate of a budget: B expected takeovers among m candidates a turn, B / m."""
    if not 0 < budget < candidates:
        raise BadInput(
            f"takeover_budget: found {budget}; it must be at least 1 and less than the "
            f"{candidates} candidates",
            field="atts.takeover_budget",
        )
    return budget / candidates
