"""Every alert fires where it should and is silent where it should not be: told to promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.metrics.backend import PREFIX
from services.metrics.catalogue import METRICS

PROJECT = Path(__file__).resolve().parents[2]
RULES = sorted((PROJECT / "helm" / "atts" / "files" / "rules").glob("*.yaml"))
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: install prometheus")

Series = dict[str, str]
"""Values of a series by its name, one a minute, in promtool's notation."""


def rules() -> list[dict[str, Any]]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}

ONE = {"application": "atts"}
POLICY = {"application": "atts", "model_name": "atts", "policy": "atts"}


def series(metric: str, values: str, **labels: str) -> Series:
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return {f"ray_{metric}{{{inside}}}": values}


def requests(**by_reason: int) -> Series:
    """So many a minute, for seven hours."""
    found: Series = {}
    for reason, number in by_reason.items():
        found |= series(
            "atts_request_success_total", f"0+{number}x420", **POLICY, finished_reason=reason
        )
    return found


def responses(route: str, by_status: dict[str, int]) -> Series:
    """So many a minute, for an hour."""
    found: Series = {}
    for status, number in by_status.items():
        of = {**ONE, "route": route, "status": status}
        found |= series("atts_http_requests_total", f"0+{number}x60", **of)
    return found


def answers(fast: int, all: int) -> Series:
    """So many answers a minute, of which `fast` within the objective, for seven hours."""
    name = "atts_e2e_request_latency_seconds"
    return series(f"{name}_bucket", f"0+{fast}x420", **POLICY, le="50.0") | series(
        f"{name}_count", f"0+{all}x420", **POLICY
    )


def decisions(rejected: float, nominal: float, all: float) -> Series:
    """So many decisions a minute, for two hours, on two routers."""
    found: Series = {}
    for name, number in (
        ("rejected", rejected),
        ("nominal_takeovers", nominal),
        ("decisions", all),
    ):
        for replica in ("one", "two"):
            found |= series(
                f"atts_{name}_total", f"0+{number / 2}x120", **POLICY, turn="0", replica=replica
            )
    return found


def queue(waiting: str, running: str) -> Series:
    """Calls of the draft's only replica."""
    of = {"application": "atts", "role": "draft", "engine_model": "d", "replica": "one"}
    return series("atts_engine_num_requests_waiting", waiting, **of) | series(
        "atts_engine_num_requests_running", running, **of
    )


def proxied(**by_code: int) -> Series:
    """So many responses of Serve's proxies a minute that are errors, for an hour."""
    of = {**ONE, "route": "/", "method": "POST"}
    found: Series = {}
    for code, number in by_code.items():
        found |= series(
            "serve_num_http_error_requests_total", f"0+{number}x60", **of, error_code=code[1:]
        )
    return found


def targets(healthy: str | None, **starts: str) -> Series:
    """When replicas of the target were there, and which of them is healthy, if any."""
    of = {"application": "atts", "deployment": "Target"}
    found: Series = {}
    if healthy is not None:
        found = series("serve_deployment_replica_healthy", "1x60", **of, replica=healthy)
    for replica, values in starts.items():
        found |= series("serve_deployment_replica_starts_total", values, **of, replica=replica)
    return found


def kv(*shares: str) -> Series:
    found: Series = {}
    for number, share in enumerate(shares):
        of = {"application": "atts", "role": "target", "replica": str(number)}
        found |= series("atts_kv_cache_usage_perc", f"{share}x30", **of)
    return found


@dataclass(frozen=True)
class Case:
    """At `minute` the alert fires with these labels and this summary; without one it is silent."""

    alert: str
    input: Series
    minute: int
    summary: str | None = None
    labels: tuple[str, ...] = ("application",)
    others: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.alert}-{'fires' if self.summary else 'silent'}-{self.minute}"


CASES = [
    Case("AttsDown", {"up": "1x20"}, 6, "No router of ATTS reports", ()),
    Case("AttsDown", series("atts_router_up", "1x20", **ONE), 10),
    Case(
        "AttsDeploymentUnhealthy",
        series("serve_deployment_status", "1x20", **ONE, deployment="Draft"),
        6,
        "Draft does not start or is not healthy",
        others=(("deployment", "Draft"),),
    ),
    Case(  # 3: being updated
        "AttsDeploymentUnhealthy",
        series("serve_deployment_status", "3x20", **ONE, deployment="Draft"),
        10,
    ),
    Case(
        "AttsErrorRate",
        requests(failed=10, consensus=60, all=30),
        70,
        "10% of requests fail (atts)",
        tuple(POLICY),
    ),
    Case("AttsErrorRate", requests(failed=1, consensus=99, cancelled=50), 70),
    Case("AttsErrorRate", requests(refused=50, consensus=1, failed=0), 70),
    Case(
        "AttsHttpErrors",
        responses("/v1/chat/completions", {"200": 30, "503": 10}),
        12,
        "25% of HTTP requests are answered with a status of 500 or above",
    ),
    Case(
        "AttsHttpErrors",
        responses("/v1/chat/completions", {"200": 30, "429": 10})
        | responses("/ready", {"503": 9})
        | proxied(_429=10, _503=9),
        12,
    ),
    Case(  # a router was lost: its clients' errors are Serve's own
        "AttsHttpErrors",
        responses("/v1/chat/completions", {"200": 30}) | proxied(_500=10),
        12,
        "25% of HTTP requests are answered with a status of 500 or above",
    ),
    Case(  # there is no router: nobody but Serve counts
        "AttsHttpErrors",
        proxied(_503=10),
        12,
        "100% of HTTP requests are answered with a status of 500 or above",
    ),
    Case(  # the routers' own errors, counted by Serve too: 4 % once, 8 % twice
        "AttsHttpErrors",
        responses("/v1/chat/completions", {"200": 96, "503": 4}) | proxied(_503=4),
        12,
    ),
    Case(
        "AttsLatencyFastBurn",
        answers(fast=2, all=10),
        70,
        "80% of answers took longer than 50 s in the last hour",
        tuple(POLICY),
    ),
    Case("AttsLatencyFastBurn", answers(fast=9, all=10), 70),
    Case(
        "AttsLatencySlowBurn",
        answers(fast=6, all=10),
        400,
        "40% of answers took longer than 50 s in the last 6 hours",
        tuple(POLICY),
    ),
    Case("AttsLatencyFastBurn", answers(fast=6, all=10), 400),
    Case("AttsLatencySlowBurn", answers(fast=9, all=10), 400),
    Case(
        "AttsTakeoverRateOffNominal",
        decisions(rejected=12, nominal=8, all=20),
        90,
        "The takeover rate of atts is off its nominal by 20%",
        tuple(POLICY),
    ),
    Case("AttsTakeoverRateOffNominal", decisions(rejected=9, nominal=8, all=20), 90),
    Case("AttsTakeoverRateOffNominal", decisions(rejected=3, nominal=2, all=5), 90),  # too few
    Case(
        "AttsDrift",
        series("atts_drift_alarms_total", "5e-324x4 1x60", **ONE, kind="scores"),
        8,
        "The scores are no longer those of the banks",
        others=(("kind", "scores"),),
    ),
    Case(
        "AttsDrift",
        series("atts_drift_alarms_total", "5e-324x4 1x9 2x9 3x9 4x60", **ONE, kind="rate")
        | decisions(rejected=12, nominal=8, all=20),
        50,
        "The takeover rate does not hold in windows of 200 decisions",
        others=(("kind", "rate"),),
    ),
    Case(  # four of sixty windows
        "AttsDrift",
        series("atts_drift_alarms_total", "5e-324x4 1x9 2x9 3x9 4x60", **ONE, kind="rate")
        | decisions(rejected=120, nominal=80, all=200),
        60,
    ),
    Case("AttsDrift", series("atts_drift_alarms_total", "5e-324x60", **ONE, kind="rate"), 8),
    Case("AttsDrift", series("atts_drift_alarms_total", "0x4 1x60", **ONE, kind="rate"), 50),
    Case(
        "AttsStoreUnreachable",
        series("atts_store_up", "1x20", **ONE, replica="one")
        | series("atts_store_up", "0x20", **ONE, replica="two"),
        6,
        "A router's exchange with the calibration store has failed for 5 minutes",
    ),
    Case("AttsStoreUnreachable", series("atts_store_up", "1 0 1 0 0 1 0x3 1x9", **ONE), 10),
    Case(
        "AttsSnapshotStale",
        series("atts_snapshot_age_seconds", "0+60x20", **ONE),
        10,
        "A router's banks are 10m 0s old",
    ),
    Case("AttsSnapshotStale", series("atts_snapshot_age_seconds", "5x20", **ONE), 10),
    Case(
        "AttsScoresLost",
        series("atts_scores_lost_total", "5e-324x9 100x30", **ONE),
        16,
        "100 calibration scores were dropped",
    ),
    Case("AttsScoresLost", series("atts_scores_lost_total", "5e-324x30", **ONE), 16),
    Case(
        "AttsQueueGrowing",
        queue(waiting="0+10x20 200x20", running="4x40"),
        24,
        "200 calls wait for the draft model, and their number grows",
        others=(("role", "draft"),),
    ),
    Case("AttsQueueGrowing", queue(waiting="100x40", running="4x40"), 25),
    Case("AttsQueueGrowing", queue(waiting="0+1x40", running="64x40"), 25),
    Case(
        "AttsRoutersFull",
        series("atts_num_requests_running", "63x20", **ONE)
        | series("atts_num_requests_allowed", "64x20", **ONE),
        12,
        "Routers hold 98.44% of the runs they take",
    ),
    Case(
        "AttsRoutersFull",
        series("atts_num_requests_running", "63x5 30x20", **ONE)
        | series("atts_num_requests_allowed", "64x25", **ONE),
        14,
    ),
    Case(
        "AttsReplicaFlapping",
        targets(
            "d", a="1x20 stale", b="_x21 1x3 stale", c="_x25 1x2 stale", d="_x28 1x30"
        ),
        31,
        "3 replicas of Target have begun within 15 minutes",
        others=(("deployment", "Target"),),
    ),
    Case("AttsReplicaFlapping", targets("b", a="1x20 stale", b="_x21 1x30"), 31),  # a roll-out
    Case(  # none is healthy
        "AttsReplicaFlapping",
        targets(None, a="1x20 stale", b="_x21 1x3 stale", c="_x25 1x2 stale", d="_x28 1x1 stale"),
        31,
        "3 replicas of Target have begun within 15 minutes",
        others=(("deployment", "Target"),),
    ),
    Case(  # one healthy one that was replaced twice is no flapping
        "AttsReplicaFlapping",
        targets(None, a="1x20 stale", b="_x21 1x3 stale", c="_x25 1x2 stale"),
        31,
    ),
    Case(  # nobody knows who was there 15 minutes ago
        "AttsReplicaFlapping",
        targets("d", a="_x18 1x2 stale", b="_x21 1x3 stale", c="_x25 1x2 stale", d="_x28 1x30"),
        31,
    ),
    Case(
        "AttsKvNearlyFull",
        kv("0.97", "0.97"),
        12,
        "97% of the target model's KV cache is held by running calls",
        others=(("role", "target"),),
    ),
    Case("AttsKvNearlyFull", kv("0.97", "0.2"), 20),
]  # fmt: skip


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def as_promtool(case: Case) -> dict[str, Any]:
    expected = []
    if case.summary is not None:
        rule = ALERTS[case.alert]
        given = {**POLICY, **dict(case.others)}
        labels = {name: given[name] for name in (*case.labels, *dict(case.others))}
        expected = [
            {
                "exp_labels": rule["labels"] | labels,
                "exp_annotations": rule["annotations"]
                | {
                    "summary": case.summary,
                    "description": rule["annotations"]["description"].replace(
                        "{{ $labels.kind }}", labels.get("kind", "")
                    ),
                },
            }
        ]
    at = {"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": expected}
    told = [{"series": name, "values": values} for name, values in case.input.items()]
    return {"interval": "1m", "input_series": told, "alert_rule_test": [at]}


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=str)
def test_alerts_fire_when_they_should_and_only_then(case: Case, tmp_path: Path) -> None:
    told = {
        "rule_files": [str(file) for file in RULES],
        "evaluation_interval": "1m",
        "tests": [as_promtool(case)],
    }
    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump(told))
    promtool("test", "rules", str(path))


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", *map(str, RULES))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.summary} == set(ALERTS)
    assert {case.alert for case in CASES if not case.summary} == set(ALERTS)


def test_every_alert_says_how_urgent_it_is_and_leads_to_its_section_and_a_dashboard() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", text, re.MULTILINE)}
    files = (RULES[0].parents[1] / "dashboards").glob("*.json")
    dashboards = {json.loads(file.read_text())["uid"] for file in files}
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("page", "ticket")
        document, _, heading = rule["annotations"]["runbook"].partition("#")
        assert (PROJECT / document).name == "operations.md"
        assert heading == name.lower() in headings
        assert rule["annotations"]["dashboard"].removeprefix("/d/") in dashboards


def test_every_metric_in_the_rules_is_one_of_ours_or_of_ray_serve() -> None:
    suffix = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count")}
    known = {f"{PREFIX}{m.name}{end}" for m in METRICS for end in suffix[m.kind]}
    for rule in rules():
        for name in re.findall(r"ray_\w+", rule["expr"]):
            assert name in known or name.startswith("ray_serve_"), (name, rule)
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        assert set(re.findall(r"\batts:[\w:]+", rule["expr"])) <= recorded
