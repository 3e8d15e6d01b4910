"""The chart's value sets render to what is checked in, and Kubernetes and KubeRay would take it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from atts_core.settings import validated
from deployment import chart_schema
from services import capacity, serve_config
from services.metrics import catalogue
from services.settings import Settings
from tests.helm import rendering

FOREIGN = ("ray.io", "monitoring.coreos.com", "gateway.networking.k8s.io")
"""API groups of custom resources, which Kubernetes' own schemas do not hold."""

CRDS = {
    "RayService": "ray.io_rayservices.yaml",
    "PodMonitor": "monitoring.coreos.com_podmonitors.yaml",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules.yaml",
    "HTTPRoute": "gateway.networking.k8s.io_httproutes.yaml",
}
"""Their definitions' files, as KubeRay, the Prometheus operator and the Gateway API name them."""

by_value_set = pytest.mark.parametrize("path", rendering.VALUE_SETS, ids=lambda path: path.stem)


@by_value_set
def test_a_value_set_renders_to_what_is_checked_in(path: Path) -> None:
    """To mend: `python -m tests.helm.rendering`, then read the difference."""
    golden = rendering.GOLDEN / path.name
    assert rendering.golden_text(rendering.read(path)) == golden.read_text()


@by_value_set
def test_kubernetes_knows_every_field(path: Path) -> None:
    found = rendering.objects(rendering.read(path))
    core = [one for one in found if not one["apiVersion"].startswith(FOREIGN)]
    assert core
    for one in core + pods(found):
        kubernetes_validate.validate(one, "1.35", strict=True)


@by_value_set
def test_custom_resources_have_no_unknown_field(path: Path) -> None:
    folder = os.environ.get("ATTS_CRDS")
    if not folder:
        pytest.skip("ATTS_CRDS names no folder with KubeRay's ray.io_rayservices.yaml")
    files = {kind: Path(folder) / name for kind, name in CRDS.items()}
    found = rendering.objects(rendering.read(path))
    for one in found:
        if one["kind"] in files and files[one["kind"]].exists():
            crd_validator(files[one["kind"]]).validate(one)
    (service,) = rendering.of_kind(found, "RayService")
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["unknown"] = 1
    with pytest.raises(jsonschema.ValidationError, match="unknown"):
        crd_validator(files["RayService"]).validate(service)


@by_value_set
def test_serve_and_our_settings_take_the_configuration_inside(path: Path) -> None:
    config = rendering.serve_config(rendering.objects(rendering.read(path)))
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    validated(Settings, application["args"])


@by_value_set
def test_a_pod_outlives_the_longest_work_of_its_pool(path: Path) -> None:
    found = rendering.objects(rendering.read(path))
    (application,) = rendering.serve_config(found)["applications"]
    drains = {
        deployment["name"].lower(): deployment.get("graceful_shutdown_timeout_s")
        for deployment in application["deployments"]
    }
    for pod in pods(found)[1:]:
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        assert grace > drains[pod["metadata"]["labels"]["app.kubernetes.io/component"]]


@by_value_set
def test_every_replica_finds_a_node_with_its_label(path: Path) -> None:
    found = rendering.objects(rendering.read(path))
    (service,) = rendering.of_kind(found, "RayService")
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    offered = {group["labels"]["atts-pool"] for group in groups}
    (application,) = rendering.serve_config(found)["applications"]
    for deployment in application["deployments"]:
        wanted = deployment.get("placement_group_bundle_label_selector") or [
            deployment["ray_actor_options"]["label_selector"]
        ]
        assert {selector["atts-pool"] for selector in wanted} <= offered


@by_value_set
def test_the_models_fit_the_gpus_of_their_groups(path: Path, tmp_path: Path) -> None:
    values = rendering.read(path)
    config = rendering.serve_config(rendering.objects(values))
    for deployment in config["applications"][0]["deployments"]:
        groups = values.get(deployment["name"].lower(), {}).get("groups", [])
        for named in {group["acceleratorType"] for group in groups if "acceleratorType" in group}:
            deployment["ray_actor_options"]["accelerator_type"] = named
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    loaded = serve_config.load(file)
    capacity.require_fit(loaded)
    assert len(list(capacity.placements(loaded))) == (2 if "settings" in values else 0)


@by_value_set
def test_pods_run_without_rights_and_secrets_come_by_reference(path: Path) -> None:
    for pod in pods(rendering.objects(rendering.read(path))):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        for variable in container["env"]:
            if variable["name"] in ("ATTS_API_KEYS", "PGPASSWORD", "HF_TOKEN"):
                assert "secretKeyRef" in variable["valueFrom"]


def test_only_the_head_may_speak_to_kubernetes() -> None:
    head, *workers = pods(rendering.objects({"apiKeys": {"open": True}}))
    assert head["spec"]["automountServiceAccountToken"] is True
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in workers)


def test_only_routers_hold_the_api_keys_and_the_store_s_password() -> None:
    values = rendering.read(rendering.CHART / "ci" / "many-of-each.yaml")
    holders = {
        (variable["name"], pod["metadata"]["labels"]["app.kubernetes.io/component"])
        for pod in pods(rendering.objects(values))
        for variable in pod["spec"]["containers"][0]["env"]
        if "valueFrom" in variable
    }
    assert holders == {
        ("ATTS_API_KEYS", "router"),
        ("PGPASSWORD", "router"),
        ("HF_TOKEN", "draft"),
        ("HF_TOKEN", "target"),
    }


def test_the_network_policy_opens_8000_to_all_and_ray_s_ports_to_nobody_outside() -> None:
    (policy,) = rendering.of_kind(rendering.objects({"apiKeys": {"open": True}}), "NetworkPolicy")
    inside, clients, operator, prometheus = policy["spec"]["ingress"]
    assert inside["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert clients == {"ports": [{"port": 8000, "protocol": "TCP"}]}
    assert ports(operator) == {8265, 8000}
    assert "namespaceSelector" in operator["from"][0]
    assert "podSelector" in operator["from"][0]
    assert ports(prometheus) == {8080, 44217, 44227}
    assert "namespaceSelector" in prometheus["from"][0]


def test_rules_and_dashboards_are_the_files_of_the_chart() -> None:
    values = {
        "apiKeys": {"open": True},
        "monitoring": {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}},
    }
    found = rendering.objects(values)
    files = rendering.CHART / "files"
    (rules,) = rendering.of_kind(found, "PrometheusRule")
    assert rules["spec"]["groups"] == [
        group
        for file in sorted((files / "rules").glob("*.yaml"))
        for group in rendering.read(file)["groups"]
    ]
    maps = rendering.of_kind(found, "ConfigMap")
    given = {name: text for one in maps for name, text in one["data"].items()}
    assert given == {file.name: file.read_text() for file in (files / "dashboards").glob("*.json")}
    assert all(one["metadata"]["labels"]["grafana_dashboard"] == "1" for one in maps)
    assert {one["metadata"]["name"] for one in maps} >= {"rel-atts-overview"}


def test_rules_and_overview_follow_the_objective_in_the_values() -> None:
    docs = "https://docs.example.com/operations"
    objective = {"latencySeconds": 500, "slowShare": 0.02, "runbookUrl": docs}
    values = {
        "apiKeys": {"open": True},
        "monitoring": {
            "prometheusRule": {"enabled": True} | objective,
            "dashboards": {"enabled": True},
        },
    }
    found = rendering.objects(values)
    (made,) = rendering.of_kind(found, "PrometheusRule")
    rules = [rule for group in made["spec"]["groups"] for rule in group["rules"]]
    slow = [r["expr"] for r in rules if r.get("record", "").startswith("atts:requests_slow:")]
    assert len(slow) == 4
    assert all('le=~"500(\\\\.0)?"' in expr for expr in slow)
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    for name, times in (("AttsLatencyFastBurn", "14.4"), ("AttsLatencySlowBurn", "6")):
        assert alerts[name]["expr"].count(f"> {times} * 0.02") == 2
        assert "longer than 500 s" in alerts[name]["annotations"]["summary"]
        assert "(2 % of answers" in alerts[name]["annotations"]["description"]
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"] == f"{docs}#{name.lower()}"
    assert "> 0.05" in alerts["AttsErrorRate"]["expr"]
    (overview,) = [
        text
        for one in rendering.of_kind(found, "ConfigMap")
        for name, text in one["data"].items()
        if name == "overview.json"
    ]
    assert overview.count("/ 0.02") == 3
    assert "above 500 s over the 2 % that the objective" in overview
    assert '"value": 50,' not in overview
    json.loads(overview)


def test_an_objective_is_a_bound_of_the_histogram() -> None:
    schema = yaml.safe_load(chart_schema.SCHEMA.read_text())
    monitoring = schema["properties"]["monitoring"]["properties"]
    allowed = monitoring["prometheusRule"]["properties"]["latencySeconds"]["enum"]
    assert allowed == [bound for bound in catalogue.LATENCY.buckets if bound >= 1]


def test_the_pair_of_the_chart_is_that_of_the_local_configuration() -> None:
    embedded = rendering.read(rendering.CHART / "files" / "embedded-pair.yaml")
    (application,) = rendering.read(serve_config.LOCAL)["applications"]
    assert embedded == application["args"]


def test_the_schema_knows_today_s_settings() -> None:
    """To mend: `python -m deployment.chart_schema`."""
    text = chart_schema.SCHEMA.read_text()
    assert chart_schema.text(chart_schema.updated(yaml.safe_load(text))) == text


def test_every_value_is_in_the_schema_and_documented_with_its_default() -> None:
    defaults = rendering.read(rendering.CHART / "values.yaml")
    schema = yaml.safe_load(chart_schema.SCHEMA.read_text())
    assert set(schema["properties"]) - {"global"} == set(defaults)


def test_helm_s_own_linter_finds_nothing() -> None:
    report = helm.lint(rendering.CHART, {"apiKeys": {"open": True}}, strict=True)
    assert [m for m in report["messages"] if m["severity"] >= 2] == []


@by_value_set
def test_an_installing_helm_creates_the_same_objects(path: Path) -> None:
    folder = os.environ.get("ATTS_HELM_RENDER")
    if not folder:
        pytest.skip("ATTS_HELM_RENDER names no folder with render.py, which runs Helm's install")
    pytest.importorskip("helm_sdkpy", reason="helm-sdkpy is not installed")
    installed = installer(Path(folder))(str(rendering.CHART), rendering.read(path))
    hooks = ("helm.sh/hook", "test")
    rendered = [
        one
        for one in rendering.objects(rendering.read(path))
        if hooks not in one["metadata"].get("annotations", {}).items()
    ]
    assert sorted(map(identity, installed)) == sorted(map(identity, rendered))


def identity(one: dict[str, Any]) -> tuple[str, str, str]:
    body = {"spec": one.get("spec"), "data": one.get("data")}
    return one["kind"], one["metadata"]["name"], json.dumps(body, sort_keys=True)


def installer(folder: Path) -> Any:
    sys.path.insert(0, str(folder))
    try:
        found = importlib.util.spec_from_file_location("render", folder / "render.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    module.kube.RES["gateway.networking.k8s.io/v1"] = {"httproutes": "HTTPRoute"}
    return module.render


def pods(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Pods that KubeRay makes of the RayService: the head's first."""
    (service,) = rendering.of_kind(found, "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    templates = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [
        {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        | {"metadata": {"name": "p", **group["template"]["metadata"]}}
        for group in templates
    ]


def ports(rule: dict[str, Any]) -> set[int]:
    return {port["port"] for port in rule["ports"]}


def copy_chart(to: Path) -> None:
    for file in rendering.CHART.rglob("*"):
        if file.is_file():
            copied = to / file.relative_to(rendering.CHART)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())


@cache
def crd_validator(file: Path) -> jsonschema.Draft202012Validator:
    """Of the schema of version v1, in which an object has no fields but those it names."""
    crd = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return jsonschema.Draft202012Validator(closed(version["schema"]["openAPIV3Schema"]))


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's schema as JSON Schema in which an object has no fields but those it names."""
    out = {name: body for name, body in schema.items() if name not in ("properties", "items")}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        out["properties"] = {name: closed(body) for name, body in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out["additionalProperties"] = False
    # Kubernetes itself checks the metadata of an object.
    if schema.get("type") == "object" and "properties" not in schema:
        return {"type": "object"}
    if "items" in schema:
        out["items"] = closed(schema["items"])
    return out
