"""The panels of the dashboards as they are checked in, and their queries as Grafana would send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deployment.monitoring import DASHBOARDS

ALL = {
    "namespace": ".*",
    "application": ".*",
    "model": ".*",
    "policy": ".*",
    "latency": ".*",
    "role": ".*",
    "engine": ".*",
}
"""What Grafana puts in for `All`."""


@dataclass(frozen=True)
class Query:
    dashboard: str
    panel: str
    legend: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard}-{self.panel}-{self.legend}".replace(" ", "_")

    def substituted(self, values: Mapping[str, str], *, interval: str, range: str) -> str:
        """The query as Prometheus gets it."""
        given = {**values, "__rate_interval": interval, "__range": range}
        return re.sub(r"\$([a-z_]\w*)", lambda found: given[found[1]], self.expr)


def boards() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, board in boards().items():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield name, panel


def queries() -> list[Query]:
    return [
        Query(
            name,
            panel["title"],
            target.get("legendFormat", ""),
            target["expr"],
            target.get("instant", False),
        )
        for name, panel in panels()
        for target in panel["targets"]
    ]
