"""All settings of a served system, in one validated model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from atts_core.calibration.settings import CalibrationSettings
from atts_core.settings import Limits, Method, Strict
from services.engines.settings import EngineSettings


class StoreSettings(Strict):
    """The calibration store that all routers share."""

    url: str | None = Field(
        None,
        description="where scores are kept: sqlite:///FILE, postgresql://USER@HOST/DATABASE or "
        "memory; None: atts/calibration.db in $XDG_STATE_HOME or ~/.local/state, on the machine "
        "that the store runs on",
    )
    required: bool = Field(
        True,
        description="whether a database that cannot be used at start is an error, or scores are "
        "then kept in memory only",
    )
    windows: int = Field(
        4, ge=1, le=1000, description="scores kept of a pair at most, in `calibration.window`s"
    )
    refresh_seconds: float = Field(
        1.0, gt=0, le=60, description="pause between two exchanges of a router with the store"
    )
    timeout_seconds: float = Field(
        5.0,
        gt=0,
        le=60,
        description="an exchange that takes longer counts as failed; a router waits as long at "
        "its start for what is kept, and at its end for its last upload",
    )
    backoff_seconds: float = Field(
        30.0, gt=0, le=600, description="longest pause between exchanges that fail"
    )


class RunSettings(Strict):
    """What is kept of runs: never prompts; what the models wrote, unless `history` is off."""

    history: bool = Field(
        True,
        description="whether the store keeps what runs did and answered, for "
        "`GET /v1/atts/runs/ID` and for idempotency keys at other routers; false: it knows of a "
        "run how it stands, and nothing that a model wrote",
    )
    max_runs: int = Field(
        1000, ge=1, le=1_000_000, description="runs kept at most; the oldest leave"
    )
    max_age_seconds: float = Field(
        86_400.0, gt=0, description="seconds that a run is kept at most after its start"
    )
    max_bytes: int = Field(
        256_000_000, ge=1_000_000, description="bytes of all kept runs at most; the oldest leave"
    )
    refresh_seconds: float = Field(
        0.25,
        gt=0,
        le=10,
        description="pause between two exchanges of a router that has runs under way; a cancel "
        "that arrives at another router waits as long",
    )


ENVIRONMENT = "ATTS_API_KEYS"
"""Keys in plain text, separated by commas; for those who keep secrets in the environment."""


class Key(Strict):
    """One key that is let in; `atts key` makes one."""

    name: str = Field(min_length=1, max_length=100, description="whose it is, for logs")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, hexadecimal")
    requests_per_minute: int | None = Field(
        None, ge=1, description="requests a minute at each router; None: no limit"
    )
    concurrent: int | None = Field(
        None, ge=1, description="requests at once at each router; None: no limit"
    )


class AccessSettings(Strict):
    """Who may ask."""

    keys: tuple[Key, ...] = Field(
        (),
        description="keys that are let in, each `name`, `sha256`, `requests_per_minute`, "
        f"`concurrent`; more from the environment variable {ENVIRONMENT}; none at all: everybody",
    )
    required: bool = Field(
        False,
        description="whether a router that finds no key, here or in its node's environment, "
        "refuses to start instead of letting everybody ask",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="origins whose pages may call from a browser"
    )


class Effort(Strict):
    """What one word of OpenAI's `reasoning_effort` asks for."""

    candidates: int | None = Field(
        None, ge=1, description="chains that run in parallel; None: `method.candidates`"
    )
    turns: int | None = Field(
        None, ge=1, description="draft segments a chain may have; None: `method.turns`"
    )


class Efforts(Strict):
    """`reasoning_effort` in candidates and turns, at most what `limits` allow a request.

    A request without it has `medium`. About half and twice what `method` has by itself.
    """

    low: Effort = Effort(candidates=4, turns=8)
    medium: Effort = Effort()
    high: Effort = Effort(candidates=32, turns=30)


class ComparisonSettings(Strict):
    """The processes that compare formulas for the votes of chains."""

    workers: int = Field(
        1, ge=1, le=64, description="processes of each router that compare formulas"
    )
    seconds: float = Field(
        5.0,
        gt=0,
        le=60,
        description="until the comparison of two formulas is given up: they count as different",
    )
    memory_mb: int = Field(
        1024, ge=512, le=65536, description="MiB of address space that such a process may have"
    )


class MetricsSettings(Strict):
    """What is measured, for Prometheus: see docs/monitoring.md."""

    enabled: bool = Field(True, description="whether anything is measured")
    every_seconds: float = Field(
        2.0, ge=0.1, le=60, description="pause between two hand-overs to the node's agent"
    )


class LogSettings(Strict):
    """What is written down of requests: see docs/monitoring.md."""

    requests: bool = Field(True, description="whether each request has a line in the logs")
    prompts: bool = Field(
        False,
        description="whether that line holds what was asked and answered; false: no log holds a "
        "word of either",
    )
    folder: Path | None = Field(
        None,
        description="where each replica writes a file of JSON lines; None: beside Serve's own "
        "logs, `logs/serve` of Ray's session",
    )
    max_bytes: int = Field(
        100_000_000, ge=10_000, description="size at which a replica begins a new file"
    )
    files: int = Field(5, ge=1, le=1000, description="files of a replica kept at most")


class TracingSettings(Strict):
    """Where spans go; needs `pip install 'atts[tracing]'`. Off unless one of the two is set."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="root of an OpenTelemetry receiver that speaks OTLP over HTTP, e.g. "
        "http://127.0.0.1:4318; None: spans are sent nowhere",
    )
    folder: Path | None = Field(
        None, description="where each replica writes its spans as JSON lines; None: nowhere"
    )
    share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of requests that are traced, where a `traceparent` does not decide",
    )
    max_bytes: int = Field(
        100_000_000, ge=10_000, description="size at which a replica begins a new file in `folder`"
    )
    files: int = Field(5, ge=1, le=1000, description="files of a replica kept at most in `folder`")

    @property
    def enabled(self) -> bool:
        return self.endpoint is not None or self.folder is not None


class Settings(Strict):
    """What is served and how. Replicas, GPUs, placement and ports belong to the Serve config."""

    served_model: str = Field(
        "atts", pattern=r"^[A-Za-z0-9._/-]+$", description="the model name clients ask for"
    )
    draft: EngineSettings = Field(description="the small model that writes the chains")
    target: EngineSettings = Field(description="the large model that judges and takes over")
    method: Method = Field(default_factory=Method)
    efforts: Efforts = Field(default_factory=Efforts)
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    limits: Limits = Field(default_factory=Limits)
    access: AccessSettings = Field(default_factory=AccessSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    comparison: ComparisonSettings = Field(default_factory=ComparisonSettings)
    runs: RunSettings = Field(default_factory=RunSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    record: Path | None = Field(
        None, description="folder in which each router keeps its runs as a trace; None: nowhere"
    )
