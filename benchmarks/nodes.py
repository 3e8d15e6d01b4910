"""A Ray cluster of several nodes on one machine, as several machines would be.

Each node has a network namespace with an address of its own on a common bridge, a process
namespace of its own, and its own /tmp/ray: what a pod or a machine has. So a node can lose its
power, or its cable, and the others see what they would see in a cluster.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

import httpx

PROJECT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 80 * 1024 * 1024
GCS_PORT, DASHBOARD_PORT, HTTP_PORT, METRICS_PORT = 6379, 8265, 8000, 8080
START_SECONDS = 240.0
_LONGEST_TURN = 30.0
"""Seconds between two looks at most, unless the machine stood still."""
_PREFIX = "atts"
"""Of the names of namespaces, links (15 characters at most) and bridges; our process id follows."""


def impossible() -> str | None:
    """Why this machine can have no such cluster; None where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    for program in ("ip", "unshare", "nsenter", "setpriv", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt-get install iproute2 util-linux)"
    name = f"{_PREFIX}{os.getpid()}-0"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    _run("ip", "netns", "del", name)
    return None


class Network:
    """A bridge in this machine's own namespace, and the addresses on it."""

    def __init__(self) -> None:
        _remove_left_over()
        self.name = f"{_PREFIX}{os.getpid()}"
        self._net = _free_subnet()
        self._taken = 1
        self.here = f"{self._net}.1"
        _run("ip", "link", "add", self.name, "type", "bridge")
        _run("ip", "addr", "add", f"{self.here}/24", "dev", self.name)
        _run("ip", "link", "set", self.name, "up")

    def address(self) -> str:
        """A new one, which no node has had before."""
        self._taken += 1
        return f"{self._net}.{self._taken}"

    def close(self) -> None:
        _run("ip", "link", "del", self.name)


class Node:
    """One node: namespaces, and in them `ray start` or whatever else was asked for."""

    def __init__(self, network: Network, name: str, address: str, folder: Path) -> None:
        self.name, self.address = name, address
        self._namespace = f"{network.name}-{address.rpartition('.')[2]}"
        self._link = f"{network.name}v{address.rpartition('.')[2]}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        _run("ip", "netns", "add", self._namespace)
        inside = ("ip", "-n", self._namespace)
        _run(
            *("ip", "link", "add", self._link, "type", "veth"),
            *("peer", "name", "eth0", "netns", self._namespace),
        )
        _run("ip", "link", "set", self._link, "master", network.name)
        _run("ip", "link", "set", self._link, "up")
        _run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "link", "set", "lo", "up")
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run `command` as the node's first process: with it, all others of the node end."""
        own = self._folder / "ray"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        self._log = (self._folder / "log").open("ab")
        script = f'mount --bind "{own}" /tmp/ray && exec "$@"'
        Path("/tmp/ray").mkdir(exist_ok=True)  # a place to mount at; nothing is written to it
        self._process = subprocess.Popen(
            [
                # The kernel ends the node with us, however we end.
                *("setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self._namespace),
                *("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"),
                *("sh", "-c", script, "sh", *command),
            ],
            env={**os.environ, **environment},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def run_inside(
        self, command: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[str]:
        """Another process of the node."""
        first = self._first()
        enter = ["nsenter", "--target", first, "--net", "--mount", "--pid", "--"]
        # Whoever enters a mount namespace stands at its root.
        return subprocess.Popen(
            [*enter, "sh", "-c", f'cd "{PROJECT}" && exec "$@"', "sh", *command],
            env={**os.environ, **environment},
            cwd=PROJECT,
            text=True,
            start_new_session=True,
            **options,
        )

    def _first(self) -> str:
        """The id, out here, of the node's first process."""
        assert self._process is not None, "the node has been started"
        pid = self._process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return child

    def kill(self) -> None:
        """All of its processes end at once, and their connections are closed by the kernel."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()

    def cut(self) -> None:
        """Nothing reaches it any more or comes from it; its peers are not told."""
        _run("ip", "link", "set", self._link, "down")

    def mend(self) -> None:
        _run("ip", "link", "set", self._link, "up")

    def said(self) -> str:
        """The end of what its first process said."""
        log = self._folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def close(self) -> None:
        self.kill()
        with suppress(subprocess.CalledProcessError):
            _run("ip", "link", "del", self._link)
        _run("ip", "netns", "del", self._namespace)


class Cluster:
    """A head and labelled nodes, each by its name; `redis` (HOST:PORT) lets the head come back."""

    def __init__(self, network: Network, folder: Path, *, redis: str | None = None) -> None:
        self.network = network
        self.nodes: dict[str, Node] = {}
        self.environment = {
            "PYTHONPATH": str(PROJECT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "services.proxy:middlewares",
            "RAY_USAGE_STATS_ENABLED": "0",
            # No worker is started before there is work for it: a node here is not a machine.
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            # As KubeRay sets it: a head may take minutes to come back.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
            # Eight nodes share this machine: for a head that comes back half a minute is too short.
            # In a pod, one that gives up is started again.
            "RAY_raylet_start_wait_time_s": "180",
            # As the chart sets it.
            "RAY_health_check_timeout_ms": "3000",
        }
        self._redis = redis
        self._folder = folder
        self.head = self._node("head")

    def add(self, name: str) -> Node:
        """A node that is not started yet."""
        return self._node(name)

    def _node(self, name: str) -> Node:
        address = self.network.address()
        self.nodes[name] = Node(self.network, name, address, self._folder / name)
        return self.nodes[name]

    def start_head(self) -> None:
        redis = {} if self._redis is None else {"RAY_REDIS_ADDRESS": self._redis}
        self.head.start(
            [
                *_ray("start", "--head", f"--port={GCS_PORT}", "--num-cpus=0"),
                *("--include-dashboard=true", f"--dashboard-host={self.head.address}"),
                f"--dashboard-port={DASHBOARD_PORT}",
                *self._common(self.head),
            ],
            {**self.environment, **redis},
        )

    def start(self, name: str, *, cpus: float = 1, labels: Mapping[str, str] | None = None) -> None:
        """Start a node that was added."""
        node = self.nodes[name]
        given = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        node.start(
            [
                *_ray("start", f"--address={self.address}", f"--num-cpus={cpus:g}"),
                *([f"--labels={given}"] if given else []),
                *self._common(node),
            ],
            self.environment,
        )

    def _common(self, node: Node) -> list[str]:
        return [
            *("--block", "--disable-usage-stats", "--include-log-monitor=false"),
            f"--node-ip-address={node.address}",
            f"--metrics-export-port={METRICS_PORT}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
        ]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"

    def api(self, path: str) -> Any:
        """The head's HTTP API (GET).

        Raises `RuntimeError` with what the head said where it has ended.
        """
        if not self.head.alive:
            raise RuntimeError(f"the head has ended: {self.head.said()}")
        url = f"http://{self.head.address}:{DASHBOARD_PORT}{path}"
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        reply = httpx.get(url, headers=token, timeout=20)
        reply.raise_for_status()
        return reply.json()

    def alive(self) -> dict[str, dict[str, Any]]:
        """What the head says of every node that is alive, by address."""
        found = self.api("/api/v0/nodes?limit=1000")["data"]["result"]["result"]
        return {node["node_ip"]: node for node in found if node["state"] == "ALIVE"}

    def head_answers(self) -> bool:
        return bool(self.alive())

    def await_nodes(self, seconds: float = START_SECONDS) -> None:
        """Until the head knows every node that was started."""

        def all_there() -> bool:
            for node in self.nodes.values():
                if node._process is not None and not node.alive:
                    raise RuntimeError(f"the node {node.name} has ended: {node.said()}")
            there = self.alive()
            return all(node.address in there for node in self.nodes.values() if node.alive)

        until(all_there, seconds, "every node is known to the head")

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()


@contextmanager
def cluster(*, redis: bool = False) -> Iterator[Cluster]:
    """A cluster without nodes on a network of its own; with `redis`, one that outlives its head."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="atts-nodes-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = Network()
        stack.callback(network.close)
        address = stack.enter_context(redis_server(network, folder)) if redis else None
        made = Cluster(network, folder, redis=address)
        stack.callback(made.close)
        yield made


@contextmanager
def redis_server(network: Network, folder: Path) -> Iterator[str]:
    """HOST:PORT of a Redis of the cluster's own."""
    port = 6390
    command = ["redis-server", "--bind", network.here, "--port", str(port), "--save", ""]
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *(*command, "--protected-mode", "no", "--dir", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"{network.here}:{port}"
    finally:
        process.kill()
        process.wait()


def until(holds: Any, seconds: float, what: str, *, pause: float = 0.25) -> float:
    """Seconds until `holds()` is true; what is not there counts as "not yet".

    Raises `TimeoutError`, which says `what`. A time in which the machine stood still is not counted
    as waited for.
    """
    began = monotonic()
    spent, before = 0.0, began
    last: object = None
    while spent < seconds:
        try:
            if holds():
                return monotonic() - began
        except (httpx.HTTPError, KeyError, TimeoutError) as error:
            last = error
        sleep(pause)
        now = monotonic()
        spent, before = spent + min(now - before, _LONGEST_TURN), now
    raise TimeoutError(f"not within {seconds:.0f} s: {what} ({last!r})")


def _ray(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def _remove_left_over() -> None:
    """Namespaces, links and bridges of processes that were killed before they could."""
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    for kind, told in (("netns", spaces.stdout), ("link", links.stdout)):
        for name, pid in re.findall(rf"\b({_PREFIX}(\d+)(?:[v-]\d+)?)\b", told):
            if not Path(f"/proc/{pid}").exists():
                subprocess.run(["ip", kind, "del", name], check=False, capture_output=True)


def _free_subnet() -> str:
    """The first three numbers of a network that nothing here is on."""
    used = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    for third in range(1, 255):
        if f" 10.213.{third}." not in used:
            return f"10.213.{third}"
    raise RuntimeError("no free network between 10.213.1 and 10.213.254")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
