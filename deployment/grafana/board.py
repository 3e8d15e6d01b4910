"""What all our dashboards have in common, and the words of their queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Dashboard, DashboardLink, Row
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableModel,
)

from deployment.grafana import variables

OVERVIEW, LATENCY, METHOD, ENGINES = "atts-overview", "atts-latency", "atts-method", "atts-engines"
TAG = "atts"

WINDOW = "$__rate_interval"
RANGE = "$__range"


def rate(metric: str, *by: str, of: str = variables.RUNS, window: str = WINDOW) -> str:
    """How fast a counter grows a second, over all replicas."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate(ray_atts_{metric}{{{of}}}[{window}]))"


def increase(metric: str, *by: str, of: str = variables.RUNS) -> str:
    """By how much a counter grew in all of the time shown, over all replicas."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (increase(ray_atts_{metric}{{{of}}}[{RANGE}]))"


def now(metric: str, *by: str, of: str = variables.APPLICATION, how: str = "sum") -> str:
    """A gauge over all replicas."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"{how}{grouped} (ray_atts_{metric}{{{of}}})"


def ratio(part: str, whole: str) -> str:
    """Nothing where the whole has not moved: what never moved is 5e-324, not 0."""
    return f"{part} / ({whole} > 1e-9)"


def quantile(
    q: float, metric: str, *by: str, of: str = variables.RUNS, window: str = WINDOW
) -> str:
    """A quantile of a histogram, right to a bucket."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', 'le', *by, of=of, window=window)})"


@dataclass(frozen=True, slots=True)
class Section:
    """A row of a dashboard and the panels below it."""

    title: str
    panels: Sequence[Builder[Panel]]


def section(title: str, *panels: Builder[Panel]) -> Section:
    return Section(title, panels)


def dashboard(
    uid: str,
    title: str,
    about: str,
    choices: Sequence[Builder[VariableModel]],
    sections: Sequence[Section],
) -> Dashboard:
    board = (
        Dashboard(f"ATTS / {title}")
        .uid(uid)
        .description(about)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            DashboardLink("ATTS")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .variables(list(choices))
        .annotation(
            AnnotationQuery()
            .name("Alerts")
            .datasource(variables.SOURCE)
            .expr('ALERTS{alertname=~"Atts.+",alertstate="firing",namespace=~"$namespace"}')
            .enable(True)
            .icon_color("red")
        )
    )
    for section in sections:
        board = board.with_row(Row(section.title))
        for panel in section.panels:
            board = board.with_panel(panel)
    return board
