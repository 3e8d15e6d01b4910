"""How long things take, as more than one dashboard shows it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.timeseries import Panel

from deployment.grafana.board import quantile
from deployment.grafana.panels import SECONDS, Query, lines


def percentiles(metric: str, *shares: float) -> list[Query]:
    """A line for each share: so many of a hundred took no longer."""
    return [Query(quantile(share, metric), f"{share:.0%}") for share in shares]


def first_text() -> Panel:
    return lines(
        "First text",
        "From the call to the first segment of any chain (ray_atts_time_to_first_token_seconds).",
        *percentiles("time_to_first_token_seconds", 0.5, 0.95, 0.99),
        unit=SECONDS,
    )
