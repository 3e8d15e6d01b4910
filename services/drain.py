"""Empties this node before it goes: `python -m services.drain SECONDS`, a pod's preStop hook.

Serve learns that the node is going, starts its replicas elsewhere, and stops the ones here when
their work is done. Returns when none is left here, or when the time is over.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from time import monotonic

import ray
from ray.util.state import list_actors

PAUSE_SECONDS = 1.0


def drain(node: str, seconds: float) -> bool:
    """Whether `node` was free of Serve's replicas within `seconds`."""
    ends = monotonic() + seconds
    announce(node, int(seconds))
    while left := replicas(node):
        if monotonic() > ends:
            print(f"still here after {seconds:.0f} s: {', '.join(left)}", file=sys.stderr)
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def announce(node: str, seconds: int) -> None:
    """Tell Ray that `node` will be gone in `seconds`; raises CalledProcessError if Ray refuses."""
    # Ray's own command for it: there is no public call.
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--node-id", node]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the pod is stopping"]
    address = ["--address", ray.get_runtime_context().gcs_address]
    deadline = ["--deadline-remaining-seconds", str(seconds)]
    subprocess.run([*command, *address, *reason, *deadline], check=True, capture_output=True)


def replicas(node: str) -> list[str]:
    """The names of Serve's replicas that are alive on `node`."""
    here = [("node_id", "=", node), ("state", "=", "ALIVE")]
    names = [actor.class_name for actor in list_actors(filters=here)]
    return sorted(name for name in names if name.startswith("ServeReplica:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, help="until the node is taken away")
    parser.add_argument("--node", help="its hexadecimal id; default: the node this runs on")
    asked = parser.parse_args()
    ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
    node = asked.node or ray.get_runtime_context().get_node_id()
    raise SystemExit(0 if drain(node, asked.seconds) else 1)


if __name__ == "__main__":
    main()
