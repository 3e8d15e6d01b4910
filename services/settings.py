"""All settings of a served system, in one validated model."""

from __future__ import annotations

from pydantic import Field

from atts_core.calibration.settings import CalibrationSettings
from atts_core.settings import Limits, Method, Strict
from services.engines.settings import EngineSettings


class StoreSettings(Strict):
    """The calibration store that all routers share."""

    refresh_seconds: float = Field(
        1.0, gt=0, le=60, description="pause between two exchanges of a router with the store"
    )
    timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="an exchange that takes longer counts as failed"
    )


class Settings(Strict):
    """What is served and how. Replicas, GPUs, placement and ports belong to the Serve config."""

    served_model: str = Field(
        "atts", pattern=r"^[A-Za-z0-9._/-]+$", description="the model name clients ask for"
    )
    draft: EngineSettings = Field(description="the small model that writes the chains")
    target: EngineSettings = Field(description="the large model that judges and takes over")
    method: Method = Field(default_factory=Method)
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    limits: Limits = Field(default_factory=Limits)
    store: StoreSettings = Field(default_factory=StoreSettings)
