"""Wrong values: refused with their place by the schema, with reason and fix by the chart."""

from __future__ import annotations

from typing import Any

import helm_python as helm
import pytest

from tests.helm import rendering

GPU_TARGET = {
    "engine": "vllm",
    "model": "Qwen/QwQ-32B",
    "tensor_parallel": 4,
}
DRAFT = {"model": "models/arithmetic/draft"}
FOUR_GPUS = {"gpus": 4, "replicas": {"min": 1, "max": 1}}


def group(**changed: Any) -> dict[str, Any]:
    one = {"min": 1, "max": 1}
    return {"name": "target", "nodes": one, "cpu": "8", "memory": "64Gi", "gpus": 4} | changed


def values(**changed: Any) -> dict[str, Any]:
    return {"apiKeys": {"open": True}} | changed


def postgres(**changed: Any) -> dict[str, Any]:
    at = {"host": "pg", "passwordSecret": {"name": "pw"}}
    return {"memory": False, "postgres": at | changed}


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"drafts": {}}, "additional properties 'drafts'"),
        ({"draft": {"replica": {}}}, "/draft"),
        ({"draft": {"replicas": {"min": -1, "max": 1}}}, "/draft/replicas/min"),
        ({"draft": {"replicas": {"min": 0, "max": 0}}}, "/draft/replicas/max"),
        ({"draft": {"replicas": {"min": 1, "max": 1, "targetOngoing": 0}}}, "targetOngoing"),
        ({"draft": {"cpus": 0}}, "/draft/cpus"),
        ({"draft": {"groups": []}}, "/draft/groups"),
        ({"target": {"groups": [group(gpus="four")]}}, "/target/groups/0/gpus"),
        ({"target": {"groups": [group(memory="lots")]}}, "/target/groups/0/memory"),
        ({"target": {"groups": [group(cpu="8 cores")]}}, "/target/groups/0/cpu"),
        ({"target": {"groups": [group(name="Target_1")]}}, "/target/groups/0/name"),
        ({"target": {"groups": [group(gpu=4)]}}, "/target/groups/0"),
        ({"target": {"groups": [{"name": "target"}]}}, "/target/groups/0"),
        ({"target": {"groups": [group(tolerations=[{"efect": "x"}])]}}, "/tolerations/0"),
        ({"router": {"replicas": {"min": 0, "max": 1}}}, "/router/replicas/min"),
        ({"router": {"gpus": 1}}, "/router"),
        ({"images": {"pullPolicy": "Sometimes"}}, "/images/pullPolicy"),
        ({"images": {"cpu": {"digest": "latest"}}}, "/images/cpu/digest"),
        ({"rayVersion": "2.51.0"}, "/rayVersion"),
        ({"rayVersion": 2.6}, "/rayVersion"),
        ({"store": {"postgres": {"port": 70000}}}, "/store/postgres/port"),
        ({"store": {"postgres": {"sslmode": "on"}}}, "/store/postgres/sslmode"),
        ({"store": {"postgres": {"password": "x"}}}, "/store/postgres"),
        ({"store": {"postgres": {"host": "h/db"}}}, "/store/postgres/host"),
        ({"store": {"postgres": {"rootCert": {"name": "ca"}}}}, "/store/postgres/rootCert"),
        ({"redis": {"address": "redis"}}, "/redis/address"),
        ({"apiKeys": {"keys": "sk-1"}}, "/apiKeys"),
        ({"apiKeys": {"existingSecret": {"name": "My Secret"}}}, "/apiKeys/existingSecret/name"),
        ({"modelCache": {"size": "100"}}, "/modelCache/size"),
        ({"modelCache": {"accessMode": "ReadWriteSome"}}, "/modelCache/accessMode"),
        ({"monitoring": {"prometheusRule": {"latencySeconds": 60}}}, "latencySeconds"),
        ({"monitoring": {"prometheusRule": {"slowShare": 0.1}}}, "slowShare"),
        ({"service": {"type": "Public"}}, "/service/type"),
        ({"httpRoute": {"requestTimeout": "ten minutes"}}, "/httpRoute/requestTimeout"),
        ({"networkPolicy": {"clients": [{"namespace": "x"}]}}, "/networkPolicy/clients/0"),
        ({"upgrade": {"strategy": "Rolling"}}, "/upgrade/strategy"),
        ({"upgrade": {"incremental": {"stepSizePercent": 0}}}, "stepSizePercent"),
        ({"env": [{"name": "HF_TOKEN", "value": "hf_x"}]}, "/env/0/name"),
        ({"podSecurityContext": {"privileged": True}}, "/podSecurityContext"),
        ({"tests": {"question": ""}}, "/tests/question"),
        ({"settings": {"draft": DRAFT}}, "/settings"),
        ({"settings": {"draft": DRAFT, "target": DRAFT, "metod": {}}}, "/settings"),
        (
            {"settings": {"draft": DRAFT, "target": DRAFT, "method": {"takeover_rate": 1}}},
            "/settings/method/takeover_rate",
        ),
        (
            {"settings": {"draft": DRAFT, "target": DRAFT, "store": {"url": "memory"}}},
            "/settings/store",
        ),
        (
            {"settings": {"draft": DRAFT, "target": {**GPU_TARGET, "tensor_parallel": 0}}},
            "/settings/target",
        ),
    ],
)
def test_the_schema_refuses(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(helm.HelmValuesError) as raised:
        rendering.manifests(wrong)
    assert place in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "reason", "fix"),
    [
        ({}, "apiKeys.existingSecret.name: missing", "kubectl create secret"),
        (
            {"apiKeys": {"open": True, "existingSecret": {"name": "keys"}}},
            "apiKeys: open is true, and there are keys",
            "Set apiKeys.open to false",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": DRAFT, "access": {"required": True}},
            ),
            "apiKeys: open is true, and settings.access.required is true",
            "Set apiKeys.open to false",
        ),
        (values(store={"postgres": {"host": "pg"}}), "two stores", "set store.memory to false"),
        (values(store={"memory": False}), "no store", "set store.postgres.host"),
        (
            values(store={"memory": False, "postgres": {"host": "pg"}}),
            "store.postgres.passwordSecret.name: missing",
            "kubectl create secret",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET},
                target=FOUR_GPUS | {"groups": [group(gpus=2)]},
            ),
            "settings.target.tensor_parallel: 4 is above the 2 GPUs of a node of target.groups[0]",
            "lower tensor_parallel",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET},
                target={"gpus": 2, "replicas": {"min": 1, "max": 1}, "groups": [group()]},
            ),
            "target.gpus: 2, but settings.target.tensor_parallel",
            "set target.gpus to 4",
        ),
        (
            values(target={"gpus": 2, "replicas": {"min": 1, "max": 1}, "groups": [group()]}),
            "target.gpus: 2, but the model uses one",
            "target.gpus to 1",
        ),
        (
            values(target={"groups": [group(gpus=0, nodes={"min": 0, "max": 0})]}),
            "a target pool without nodes",
            "raise it in one",
        ),
        (
            values(target={"groups": [group(gpus=0, nodes={"min": 2, "max": 1})]}),
            "target.groups[0].nodes: min 2 is above max 1",
            "lower min",
        ),
        (
            values(target={"replicas": {"min": 3, "max": 2}}),
            "target.replicas: min 3 is above max 2",
            "raise max",
        ),
        (
            values(router={"replicas": {"min": 1, "max": 5}}),
            "router.replicas.max: 5 replicas, but the groups' nodes hold 2",
            "lower replicas.max",
        ),
        (
            values(draft={"gpus": 1, "replicas": {"min": 1, "max": 1}}),
            "holds no replica of draft",
            "use larger nodes",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET | {"tensor_parallel": 1}},
                target={"replicas": {"min": 1, "max": 1}, "groups": [group(gpus=0)]},
            ),
            "target.gpus: 0, but settings.target.engine is vllm",
            "Set target.gpus to 1",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET},
                target=FOUR_GPUS | {"cpus": 4, "groups": [group(cpu="2")]},
            ),
            "target.groups[0]: a node (cpu 2, gpus 4) holds no replica of target",
            "lower target.cpus",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET},
                target=FOUR_GPUS
                | {"cpus": 5, "replicas": {"min": 1, "max": 2}, "groups": [group(gpus=8)]},
            ),
            "target.replicas.max: 2 replicas, but the groups' nodes hold 1",
            "raise nodes.max",
        ),
        (
            values(target={"groups": [group(gpus=1)]}),
            "target.groups[0].gpus: 1 GPUs that no replica uses: target.gpus is 0",
            "the group's gpus to 0",
        ),
        (
            values(router={"cpus": 3}),
            "router.groups[0]: a node (cpu 2, gpus 0) holds no replica of router",
            "lower router.cpus",
        ),
        (
            values(router={"cpus": 2}),
            "router.cpus: 2 leaves no node of router.groups the 0.1 cores of the calibration store",
            "lower router.cpus",
        ),
        (
            values(modelCache={"enabled": True, "accessMode": "ReadOnlyMany"}),
            "modelCache.accessMode: ReadOnlyMany",
            "modelCache.existingClaim",
        ),
        (
            values(modelCache={"enabled": True, "accessMode": "ReadWriteOncePod"}),
            "modelCache.accessMode: ReadWriteOncePod lets one pod mount",
            "use ReadWriteMany",
        ),
        (
            values(store=postgres(sslmode="verify-full")),
            "store.postgres.rootCert: missing: sslmode verify-full",
            "existingSecret or existingConfigMap",
        ),
        (
            values(store=postgres(rootCert={"existingSecret": "a", "existingConfigMap": "b"})),
            "store.postgres.rootCert: two sources",
            "Name one of them",
        ),
        (
            values(target={"groups": [group(name="draft")]}),
            '"draft" is also the name of draft.groups[0]',
            "needs its own",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET},
                target=FOUR_GPUS | {"groups": [group()], "modelGiB": 62},
                modelCache={"enabled": True, "size": "50Gi"},
            ),
            "modelCache.size: 50Gi is too small",
            "Raise modelCache.size to 69Gi",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": GPU_TARGET},
                target=FOUR_GPUS | {"groups": [group()]},
                modelCache={"enabled": True},
            ),
            "target.modelGiB: missing",
            "say how large its files are",
        ),
        (
            values(settings={"draft": {"model": "meta-llama/Llama-3.1-8B"}, "target": DRAFT}),
            "hubToken.existingSecret.name: missing",
            "kubectl create secret",
        ),
        (
            values(
                settings={"draft": DRAFT, "target": DRAFT, "method": {"deadline_ms": 900_000}},
            ),
            "router.drainSeconds: 600 is not above settings.method.deadline_ms (900 s)",
            "Raise router.drainSeconds",
        ),
        (
            values(upgrade={"oldClusterSeconds": 60}),
            "upgrade.oldClusterSeconds: 60 is not above router.drainSeconds 600",
            "",
        ),
        (
            values(upgrade={"strategy": "NewClusterWithIncrementalUpgrade"}),
            "upgrade.incremental.gatewayClassName: missing",
            "or use NewCluster",
        ),
        (
            values(
                upgrade={
                    "strategy": "NewClusterWithIncrementalUpgrade",
                    "incremental": {"gatewayClassName": "istio"},
                },
                httpRoute={"enabled": True, "parentRefs": [{"name": "public"}]},
            ),
            "NewClusterWithIncrementalUpgrade makes a Gateway and a route of its own",
            "or use NewCluster",
        ),
        (
            values(
                upgrade={
                    "strategy": "NewClusterWithIncrementalUpgrade",
                    "incremental": {"gatewayClassName": "istio", "stepSizePercent": 50},
                }
            ),
            "stepSizePercent 50 is above maxSurgePercent 25",
            "",
        ),
        (values(ingress={"enabled": True}), "ingress.host: missing", ""),
        (values(httpRoute={"enabled": True}), "httpRoute.parentRefs: missing", "name the Gateway"),
    ],
)
def test_the_chart_refuses_what_contradicts_itself(
    wrong: dict[str, Any], reason: str, fix: str
) -> None:
    with pytest.raises(helm.HelmRenderError) as raised:
        rendering.manifests(wrong)
    said = str(raised.value).replace("\\", "")
    assert reason in said
    assert fix in said
