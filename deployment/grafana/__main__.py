"""Write the dashboards into the chart: `python -m deployment.grafana`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deployment.grafana import engines, latency, method, overview

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "atts" / "files" / "dashboards"
DASHBOARDS = {
    "overview.json": overview.build,
    "latency.json": latency.build,
    "method.json": method.build,
    "engines.json": engines.build,
}


def texts() -> dict[str, str]:
    """The JSON of every dashboard, by the name of its file."""
    found: dict[str, str] = {}
    for name, build in DASHBOARDS.items():
        board = json.loads(json.dumps(build().build(), cls=JSONEncoder))
        for number, panel in enumerate(board["panels"], 1):
            panel["id"] = number
        found[name] = json.dumps(board, indent=1, ensure_ascii=False) + "\n"
    return found


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
