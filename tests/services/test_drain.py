"""A node that goes is emptied first, and what it was answering is answered."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

pytestmark = [pytest.mark.slow, pytest.mark.serve]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that runs nothing, and two nodes of one CPU."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True}
    )
    for _ in range(2):
        started.add_node(num_cpus=1)
    ray.init(address=started.address)
    yield started
    serve.shutdown()
    ray.shutdown()
    started.shutdown()


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 1}, graceful_shutdown_timeout_s=60)
class Slow:
    """Says where it runs, at once or when the gate opens."""

    async def where(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    async def wait(self, gate: Any) -> str:
        await gate.wait.remote()
        return await self.where()


@ray.remote(num_cpus=0)
class Gate:
    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        await self.opened.wait()

    async def open(self) -> None:
        self.opened.set()


def nodes_of_replicas() -> set[str]:
    alive: list[Any] = list_actors(filters=[("state", "=", "ALIVE")])
    return {a.node_id for a in alive if a.class_name.startswith("ServeReplica:")}


def test_a_draining_node_finishes_its_call_and_its_replica_moves(cluster: Cluster) -> None:
    handle = serve.run(Slow.bind())
    before = handle.where.remote().result(timeout_s=60)
    gate = Gate.remote()
    waiting = handle.wait.remote(gate)
    command = [sys.executable, "-m", "services.drain", "90", "--node", before]
    with subprocess.Popen(
        command, env={**os.environ, "RAY_ADDRESS": cluster.address}, stderr=subprocess.PIPE
    ) as drain:
        # The new replica is there while the old one still holds the call.
        while nodes_of_replicas() == {before}:
            assert drain.poll() is None, drain.communicate()
        assert drain.poll() is None
        ray.get(gate.open.remote())
        assert waiting.result(timeout_s=60) == before
        _, said = drain.communicate(timeout=90)
    assert drain.returncode == 0, said
    assert before not in nodes_of_replicas()
    assert handle.where.remote().result(timeout_s=60) != before
