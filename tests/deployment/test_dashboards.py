"""The dashboards are those of the code, whole, and speak of metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deployment.grafana.__main__ import texts
from deployment.monitoring import DASHBOARDS, PROJECT, RULES
from services.metrics.backend import PREFIX
from services.metrics.catalogue import METRICS
from tests.deployment.panels import ALL, boards, panels, queries

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count")}
OURS = {f"{PREFIX}{m.name}{end}": m for m in METRICS for end in SUFFIXES[m.kind]}
OF_SERVE = {
    "ray_serve_deployment_replica_starts_total",
    "ray_serve_deployment_replica_healthy",
    "ray_serve_deployment_status",
    "ray_serve_replica_processing_queries",
}
RECORDED = {
    rule["record"]
    for file in RULES.glob("*.yaml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}
FROM_OUTSIDE = {"namespace", "application", "replica", "deployment", "le", "job", "instance"}


def test_the_json_is_what_the_code_makes() -> None:
    """To mend: make dashboards."""
    assert {file.name: file.read_text() for file in DASHBOARDS.glob("*.json")} == texts()


@pytest.mark.parametrize("name", boards(), ids=str)
def test_grafana_s_schema_reads_the_json_and_loses_nothing(name: str) -> None:
    register_default_plugins()
    board = boards()[name]
    read = Dashboard.from_json(json.loads(json.dumps(board)))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == board


def test_there_are_the_four_of_them_and_they_lead_to_each_other() -> None:
    found = boards()
    assert set(found) == {"overview", "latency", "method", "engines"}
    for name, board in found.items():
        assert board["uid"] == f"atts-{name}"
        assert board["tags"] == ["atts"]
        (link,) = board["links"]
        assert link["type"] == "dashboards"
        assert link["tags"] == ["atts"]
        assert link["includeVars"]
        assert link["keepTime"]
    uids = {board["uid"] for board in found.values()}
    for _, panel in panels():
        for link in panel.get("links", []):
            assert link["url"].removeprefix("/d/").partition("?")[0] in uids


@pytest.mark.parametrize("name", boards(), ids=str)
def test_a_dashboard_can_be_narrowed_down(name: str) -> None:
    variables = boards()[name]["templating"]["list"]
    names = [variable["name"] for variable in variables]
    assert names[:3] == ["datasource", "namespace", "application"]
    assert names[3:5] == (["role", "engine"] if name == "engines" else ["model", "policy"])
    for variable in variables[1:]:
        assert variable["allValue"] == ALL[variable["name"]]
        metric, label = re.findall(r"label_values\((\w+).*, (\w+)\)", variable["query"])[0]
        assert label in (*OURS[metric].labels, *FROM_OUTSIDE)
        used = set(re.findall(r"\$([a-z_]\w*)", variable["query"]))
        assert used <= set(names[: names.index(variable["name"])])
    given = {*names, "__rate_interval", "__range"}
    for query in queries():
        if query.dashboard == name:
            assert set(re.findall(r"\$([a-z_]\w*)", query.expr)) <= given


@pytest.mark.parametrize(
    "panel",
    [panel for _, panel in panels()],
    ids=[f"{name}-{panel['title']}".replace(" ", "_") for name, panel in panels()],
)
def test_a_panel_says_what_it_shows_in_which_unit_and_of_which_metric(
    panel: dict[str, Any],
) -> None:
    assert len(panel["description"]) > 30
    assert re.search(r"\b(ray_(atts|serve)_|atts:)\w+|the same counters", panel["description"])
    heat = panel["options"].get("yAxis")
    assert panel.get("fieldConfig", {"defaults": heat})["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]


def test_no_two_panels_of_a_dashboard_are_in_the_same_place() -> None:
    for board in boards().values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_query_speaks_of_metrics_and_labels_that_there_are(query: Any) -> None:
    named = re.findall(r"\bray_\w+|\batts:[\w:]+", query.expr)
    assert named
    for name in named:
        assert name in OURS or name in OF_SERVE or name in RECORDED, name
    known = {label for metric in METRICS for label in metric.labels} | FROM_OUTSIDE
    grouped = re.findall(r"(?:by|on) \(([\w, ]*)\)", query.expr)
    assert {label for group in grouped for label in group.split(", ") if label} <= known
    assert set(re.findall(r"[{,](\w+)(?:=|!)", query.expr)) <= known


def test_every_metric_of_ours_is_in_a_panel_or_a_rule() -> None:
    text = "".join(query.expr for query in queries())
    text += "".join(file.read_text() for file in RULES.glob("*.yaml"))
    shown = {metric.name for name, metric in OURS.items() if name in text}
    assert {metric.name for metric in METRICS} == shown


def test_docker_provisions_the_same_files() -> None:
    docker = PROJECT / "docker"
    compose = yaml.safe_load((docker / "compose.yaml").read_text())
    mounted = {
        (docker / volume.split(":")[0]).resolve()
        for service in ("prometheus", "grafana")
        for volume in compose["services"][service]["volumes"]
        if volume.startswith(".")
    }
    assert {RULES, DASHBOARDS} <= mounted
