"""The application of `deployment/cluster.yaml` on a cluster of `benchmarks.nodes`."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.nodes import HTTP_PORT, METRICS_PORT, PROJECT, Cluster, until

CONFIG = PROJECT / "deployment" / "cluster.yaml"
POOLS = {
    "draft-1": "draft",
    "draft-2": "draft",
    "target-1": "target",
    "target-2": "target",
    "router-1": "router",
    "router-2": "router",
    "router-3": "router",
}
"""The nodes and their label `atts-pool`."""


@dataclass(frozen=True)
class Replica:
    """One replica of a deployment, and the node it is on."""

    id: str
    deployment: str
    node: str
    state: str


class Served:
    """The application, where its replicas are, and what its nodes say."""

    def __init__(self, cluster: Cluster, pools: Mapping[str, str], config: Path) -> None:
        self.cluster = cluster
        self.pools = pools
        self.config = config

    @property
    def names(self) -> dict[str, str]:
        """Each node's name by its address."""
        return {node.address: node.name for node in self.cluster.nodes.values()}

    def state(self) -> dict[str, Any]:
        """What Serve says of itself, by the head's HTTP API."""
        state: dict[str, Any] = self.cluster.api("/api/serve/applications/")
        return state

    def replicas(self, state: dict[str, Any] | None = None) -> list[Replica]:
        names = self.names
        deployments = (state or self.state())["applications"]["atts"]["deployments"]
        return [
            Replica(one["replica_id"], deployment, names[one["node_ip"]], one["state"])
            for deployment, told in deployments.items()
            for one in told["replicas"]
            if one.get("node_ip") in names  # one that starts may be nowhere yet
        ]

    def nodes_of(self, deployment: str) -> list[str]:
        """Names of the nodes with its running replicas, one for each replica."""
        return sorted(
            r.node for r in self.replicas() if r.deployment == deployment and r.state == "RUNNING"
        )

    def whole(self) -> bool:
        """Whether every deployment has its replicas, each on a node that lives, and its proxies."""
        state = self.state()
        application = state["applications"]["atts"]
        running = Counter[str]()
        for replica in self.replicas(state):
            if replica.state != "RUNNING" or not self.cluster.nodes[replica.node].alive:
                return False
            running[replica.deployment] += 1
        wanted = {
            name: told["target_num_replicas"] for name, told in application["deployments"].items()
        }
        doors = set(self.doors(state).values())
        return (
            application["status"] == "RUNNING"
            and running == wanted
            and all(replica.node in doors for replica in self.replicas(state))
        )

    def doors(self, state: dict[str, Any] | None = None) -> dict[str, str]:
        """Addresses whose proxy is healthy, with the names of their nodes."""
        names = self.names
        return {
            proxy["node_ip"]: names[proxy["node_ip"]]
            for proxy in (state or self.state())["proxies"].values()
            if proxy["status"] == "HEALTHY" and proxy.get("node_ip") in names
        }

    def url(self, node: str) -> str:
        return f"http://{self.cluster.nodes[node].address}:{HTTP_PORT}"

    def start_node(self, name: str) -> None:
        self.cluster.start(name, labels={"atts-pool": self.pools[name]})

    def busy(self) -> dict[str, int]:
        """Requests by engine replica, and runs, of all that run or wait; empty where all is idle.

        Any router answers for itself and for one replica of each pool: asked until all have been.
        """
        there = [r for r in self.replicas() if r.state == "RUNNING"]
        wanted = {r.id for r in there if r.deployment in ("Draft", "Target")}
        doors, found, runs = list(self.doors()), dict[str, int](), 0
        for turn in range(40 * len(wanted)):
            ready = httpx.get(f"http://{doors[turn % len(doors)]}:{HTTP_PORT}/ready", timeout=10)
            told = ready.json()
            runs = max(runs, told["running"])
            for pool in ("draft", "target"):
                if "replica" in told[pool]:
                    found[told[pool]["replica"]] = told[pool]["running"] + told[pool]["waiting"]
            if wanted <= set(found):
                return {name: n for name, n in {**found, "runs": runs}.items() if n}
        raise TimeoutError(f"no answer from the replicas {wanted - set(found)}")

    def metrics(self) -> dict[str, list[tuple[str, dict[str, str], float]]]:
        """Every sample (name, labels, value) of each living node, scraped at its own address."""
        found = {}
        for name, node in self.cluster.nodes.items():
            if node.alive:
                text = httpx.get(f"http://{node.address}:{METRICS_PORT}/metrics", timeout=20).text
                found[name] = [
                    (sample.name, dict(sample.labels), sample.value)
                    for family in text_string_to_metric_families(text)
                    for sample in family.samples
                ]
        return found

    def total(self, metric: str, **labels: str) -> float:
        """A metric's sum over all nodes."""
        return sum(
            value
            for samples in self.metrics().values()
            for name, has, value in samples
            if name == metric and labels.items() <= has.items()
        )


@contextmanager
def served_on(
    cluster: Cluster,
    pools: Mapping[str, str] = POOLS,
    *,
    store: str | None = None,
    apart: bool = False,
    **deployments: Mapping[str, Any],
) -> Iterator[Served]:
    """Start the head, the nodes in `pools` and the application.

    `store`: its URL, instead of the configuration's. `apart`: routers and store are on nodes
    labelled `router`, and on no other, so that losing one is losing nothing else, and no pool
    scales: what is measured is the loss. `deployments`: options to change.
    """
    cluster.start_head()
    until(cluster.head_answers, 240, "the head answers")
    for name in pools:
        cluster.add(name)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        config = Path(file.name)
        config.write_text(yaml.safe_dump(_changed(store, apart, deployments)))
        served = Served(cluster, pools, config)
        for name in pools:
            served.start_node(name)
        cluster.await_nodes()
        started = start(served)
        try:
            until(served.whole, 240, "every deployment has its replicas")
            yield served
        finally:
            started.kill()
            started.wait()


def _changed(
    store: str | None, apart: bool, deployments: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The configuration of the repository with what a measurement wants otherwise."""
    config: dict[str, Any] = copy.deepcopy(yaml.safe_load(CONFIG.read_text()))
    (application,) = config["applications"]
    if store is not None:
        application["args"]["store"]["url"] = store
    for deployment in application["deployments"]:
        if apart:
            if deployment["name"] in ("Router", "CalibrationStore"):
                deployment["ray_actor_options"]["label_selector"] = {"atts-pool": "router"}
            scaled = deployment.pop("autoscaling_config", None)
            if scaled is not None:
                deployment["num_replicas"] = scaled["min_replicas"]
        deployment.update(deployments.get(deployment["name"], {}))
    return config


def start(served: Served) -> subprocess.Popen[str]:
    """`atts serve` on the head; returns when it says that the application is ready."""
    command = ["-m", "services.cli", "serve", "--config", str(served.config), "--address", "auto"]
    process = served.cluster.head.run_inside(
        [sys.executable, *command],
        served.cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if "ready after" in line:
            return process
    raise RuntimeError(f"the application did not start: {''.join(said)}")
