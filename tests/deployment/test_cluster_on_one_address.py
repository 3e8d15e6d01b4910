"""`serve deploy deployment/cluster.yaml` on a head, two draft and two target nodes of one address.

What `test_cluster.py` asks for on any machine, where nodes may have no network of their own: all
questions come through the head's door.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from benchmarks.nodes import until
from benchmarks.server import free_port
from models.arithmetic.problems import held_out
from services.access import hashed

pytestmark = [pytest.mark.slow, pytest.mark.serve, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
POOLS = ("draft", "draft", "target", "target")
PROBLEMS = list(held_out(8, seed=31))
KEY = "one-address"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}


class Deployment:
    """A cluster with labelled nodes, and what was deployed on it last."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._dashboard = free_port()
        self._folder = folder
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": True,
                "dashboard_port": self._dashboard,
            },
        )
        for pool in POOLS:
            self.cluster.add_node(num_cpus=1, labels={"atts-pool": pool})
        # Ray believes it: a node that only says that it has a GPU, of 22 GiB.
        said = {"atts-pool": "target", "ray.io/accelerator-type": "L4"}
        self.cluster.add_node(num_cpus=1, num_gpus=1, labels=said)
        ray.init(address=self.cluster.address)

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()

    def deploy(self, options: Mapping[str, Any] | None = None, **args: Any) -> None:
        """`serve deploy` of `deployment/cluster.yaml` with other arguments, one door, and `options`
        of deployments by their names."""
        config = yaml.safe_load((ROOT / "deployment" / "cluster.yaml").read_text())
        config["proxy_location"] = "HeadOnly"
        config["http_options"] = {"host": "127.0.0.1", "port": self.port}
        config["applications"][0]["args"] |= args
        for deployment in config["applications"][0]["deployments"]:
            deployment |= (options or {}).get(deployment["name"], {})
        file = self._folder / "serve.yaml"
        file.write_text(yaml.safe_dump(config))
        url = f"http://127.0.0.1:{self._dashboard}"
        command = [sys.executable, "-m", "ray.serve.scripts", "deploy", str(file), "-a", url]
        # As an operator's shell: it has none of this project in its path.
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)

    def state(self) -> dict[str, Any]:
        """What Serve says of the application."""
        url = f"http://127.0.0.1:{self._dashboard}/api/serve/applications/"
        found: dict[str, Any] = httpx.get(url, timeout=20).json()["applications"]["atts"]
        return found

    def pools_of(self, deployment: str) -> list[str]:
        """The labels of the nodes with its running replicas."""
        labels = {node["NodeID"]: node["Labels"] for node in ray.nodes()}
        replicas = self.state()["deployments"][deployment]["replicas"]
        return [
            labels[one["node_id"]].get("atts-pool", "head")
            for one in replicas
            if one["state"] == "RUNNING"
        ]

    def ask(self, question: str) -> dict[str, Any]:
        body = {
            "model": "atts",
            "messages": [{"role": "user", "content": question}],
            "atts": {"candidates": 4, "seed": 1},
        }
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        reply = httpx.post(url, json=body, headers=WITH_KEY, timeout=180)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()["atts"]
        return answer


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "services.proxy:middlewares",
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    os.environ.pop("ATTS_API_KEYS", None)
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    try:
        yield made
    finally:
        made.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@pytest.fixture(scope="module")
def served(deployment: Deployment) -> Deployment:
    """With a key, which is required."""
    key = {"name": "test", "sha256": hashed(KEY)}
    deployment.deploy(access={"required": True, "keys": [key]})
    until(lambda: deployment.state()["status"] == "RUNNING", 300, "the application runs")
    return deployment


def test_routers_refuse_to_start_where_required_keys_are_missing(deployment: Deployment) -> None:
    deployment.deploy(access={"required": True})

    def refused() -> bool:
        return "access.required: there are no API keys" in json.dumps(deployment.state())

    until(refused, 300, "Serve says why the router does not start")
    assert deployment.state()["status"] != "RUNNING"
    assert not deployment.pools_of("Router")


def test_a_model_too_large_for_its_node_s_gpu_is_refused_before_it_is_loaded(
    deployment: Deployment,
) -> None:
    actor = {"num_cpus": 0.5, "num_gpus": 1, "label_selector": {"atts-pool": "target"}}
    once = {"min_replicas": 1, "max_replicas": 1}
    deployment.deploy(
        {"Target": {"ray_actor_options": actor, "autoscaling_config": once}},
        target={"model": "Qwen/QwQ-32B"},
    )

    def refused() -> bool:
        return "Qwen/QwQ-32B does not fit on each of 1" in json.dumps(deployment.state())

    until(refused, 300, "Serve says why the target does not start")
    assert not deployment.pools_of("Target")


def test_replicas_are_where_their_labels_say(served: Deployment) -> None:
    assert set(served.pools_of("Draft")) == {"draft"}
    assert served.pools_of("Target") == ["target", "target"]
    routers = served.pools_of("Router")
    assert len(routers) >= 2
    assert "head" not in routers


def test_questions_are_answered_right(served: Deployment) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda p: served.ask(p.question), PROBLEMS))
    right = [told["answer"] == p.answer for told, p in zip(answers, PROBLEMS, strict=True)]
    assert sum(right) >= len(PROBLEMS) - 1
    assert all(told["candidates"]["failed"] == 0 for told in answers)


def test_nobody_asks_without_the_key(served: Deployment) -> None:
    url = f"http://127.0.0.1:{served.port}/v1/models"
    assert httpx.get(url, timeout=60).status_code == 401
    assert httpx.get(url, headers=WITH_KEY, timeout=60).status_code == 200


def test_the_metrics_of_each_pool_come_from_its_nodes(served: Deployment) -> None:
    def roles(node: dict[str, Any]) -> set[str]:
        text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=20).text
        lines = [line for line in text.splitlines() if line.startswith("ray_atts_engine_up{")]
        return {role for role in ("draft", "target") for one in lines if f'role="{role}"' in one}

    def all_there() -> bool:
        return set().union(*map(roles, ray.nodes())) == {"draft", "target"}

    until(all_there, 60, "both pools' engines are in the metrics")
    for node in ray.nodes():
        assert roles(node) <= {node["Labels"].get("atts-pool", "head")}
