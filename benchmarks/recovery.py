"""Nodes lost while 20 questions are open: what becomes of the questions, and how long it takes.

    python -m benchmarks.recovery [--json] [--loss target] [--loss head] …

Needs root on Linux: see `benchmarks.nodes`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from benchmarks import nodes
from benchmarks.cluster_load import Asked, Load
from benchmarks.served_cluster import Served, served_on

AT_ONCE = 20
BEFORE, AFTER = 30, 30
"""Questions that are answered before the loss, and once all is whole again."""
WHOLE_SECONDS = 180.0
IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Loss:
    """A node to lose: how it is called, whose node it is, and whether it is cut off or killed."""

    name: str
    says: str
    deployment: str | None
    """None: the head."""
    cut: bool = False


LOSSES = (
    Loss("target", "a target node is killed", "Target"),
    Loss("draft", "the draft's node is killed", "Draft"),
    Loss("router", "a router's node is killed", "Router"),
    Loss("store", "the store's node is killed", "CalibrationStore"),
    Loss("head", "the head is killed, and starts again", None),
    Loss("target-cut", "a target node loses its network", "Target", cut=True),
    Loss("draft-cut", "the draft's node loses its network", "Draft", cut=True),
)


@dataclass
class Account:
    """What a loss cost. Seconds count from the loss."""

    loss: str
    says: str
    lost: list[str]
    """Deployments with a replica on the node, and its proxy."""
    open: int
    """Questions that were open at the loss."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Of all questions that were open at the loss or asked after it."""
    right: float = 0.0
    """Share of the answers that are right."""
    failed_candidates: int = 0
    errors: list[str] = field(default_factory=list)
    """What questions without an answer, and failed candidates, say."""
    trouble: float = 0.0
    """Until the last question that failed was over."""
    store_away: float = 0.0
    """Until the last answer of a router that could not reach the store."""
    whole: float = 0.0
    """Until every deployment had all its replicas on living nodes."""
    median_before: float = 0.0
    """Seconds of an answer before the loss."""
    longest: float = 0.0
    """Seconds of the slowest answer that was open at the loss or asked after it."""
    idle: float = 0.0
    """Seconds from the last answer until the engines had nothing to do."""
    stalled: float = 0.0
    """Seconds of the longest time that the machine left us without a turn: the others are as much
    too long."""


async def lose(served: Served, loss: Loss) -> Account:
    """Lose the node under load, wait until all is whole, and bring the node back."""
    cluster = served.cluster
    victim = _victim(served, loss)
    node = cluster.nodes[victim]
    held = sorted({r.deployment for r in served.replicas() if r.node == victim})
    # Clients do not ask the head (the chart's Service leaves it out). Nobody can tell a client that
    # its door is cut off: a load balancer has taken it out.
    closed = {"head", victim} if loss.cut else {"head"}
    doors = [address for address, name in served.doors().items() if name not in closed]
    pauses: list[float] = []
    async with (
        _watching(pauses),
        Load(doors, at_once=AT_ONCE, seed=LOSSES.index(loss) + 1) as load,
    ):
        await load.answered(BEFORE)
        before = [a.ended - a.began for a in load.asked]
        began = monotonic()
        account = Account(loss.name, loss.says, held, load.open)
        load.lost.add(node.address)
        if loss.cut:
            node.cut()
        node.kill()
        if loss.deployment is None:
            cluster.start_head()
        await asyncio.to_thread(_until_whole, served)
        account.whole = monotonic() - began
        await load.answered(AFTER, since=monotonic())
    account.idle = await asyncio.to_thread(
        nodes.until, lambda: not served.busy(), IDLE_SECONDS, "the engines are idle"
    )
    _sum_up(account, [a for a in load.asked if a.ended >= began], began)
    account.stalled = max(pauses)
    account.median_before = median(before)
    if loss.deployment is not None:
        if loss.cut:
            node.mend()
        served.start_node(victim)
        await asyncio.to_thread(cluster.await_nodes)
        await asyncio.to_thread(_until_whole, served)
    return account


@asynccontextmanager
async def _watching(pauses: list[float]) -> AsyncIterator[None]:
    """Note how much later than wanted this process gets its turn, again and again."""

    async def watch() -> None:
        while True:
            before = monotonic()
            await asyncio.sleep(0.5)
            pauses.append(monotonic() - before - 0.5)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _victim(served: Served, loss: Loss) -> str:
    if loss.deployment is None:
        return "head"
    holders = served.nodes_of(loss.deployment)
    if loss.name == "router":  # not the store's too, where that can be helped
        others = [name for name in holders if name not in served.nodes_of("CalibrationStore")]
        holders = others or holders
    return holders[0]


def _until_whole(served: Served) -> None:
    nodes.until(served.whole, WHOLE_SECONDS, "all is whole again")


def _sum_up(account: Account, asked: list[Asked], began: float) -> None:
    account.outcomes = dict(Counter(a.outcome for a in asked))
    answers = [a for a in asked if a.outcome == "answered"]
    account.right = sum(a.right for a in answers) / len(answers)
    account.failed_candidates = sum(a.details["candidates"]["failed"] for a in answers)
    account.errors = [a.said for a in asked if a.said] + [
        error for a in answers for error in a.details["candidates"]["errors"]
    ]
    failed = [a.ended for a in asked if a.outcome != "answered"]
    account.trouble = max((ended - began for ended in failed), default=0.0)
    away = [a.ended for a in answers if a.details["calibration"]["store_error"]]
    account.store_away = max((ended - began for ended in away), default=0.0)
    account.longest = max(a.ended - a.began for a in asked)


def run(losses: list[Loss]) -> dict[str, Any]:
    """Every loss in turn, in one cluster; scores are in memory."""
    with nodes.cluster(redis=True) as cluster, served_on(cluster, apart=True) as served:
        return result_of(served, [asyncio.run(lose(served, loss)) for loss in losses])


def result_of(served: Served, accounts: list[Account]) -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {len(served.pools) + 1} nodes",
        "at_once": AT_ONCE,
        "losses": [asdict(account) for account in accounts],
    }


def as_table(result: dict[str, Any]) -> str:
    """The result for people, as Markdown."""
    lines = [
        f"{result['at_once']} questions at once; {result['machine']}",
        "",
        "| what is lost | answered | retryable error | connection lost with the node | neither | "
        "candidates failed | last failure | whole again | slowest answer (median before) | "
        "machine stalled |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for told in result["losses"]:
        outcomes = told["outcomes"]
        counts = [outcomes.get(name, 0) for name in ("answered", "retryable", "door lost", "wrong")]
        cells = [
            told["says"],
            *map(str, counts),
            str(told["failed_candidates"]),
            f"{told['trouble']:.0f} s" if told["trouble"] else "–",
            f"{told['whole']:.0f} s",
            f"{told['longest']:.0f} s ({told['median_before']:.0f} s)",
            f"{told['stalled']:.0f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="all that was measured, as JSON")
    names = [loss.name for loss in LOSSES]
    parser.add_argument("--loss", action="append", choices=names, help="default: all")
    asked = parser.parse_args()
    why = nodes.impossible()
    if why is not None:
        sys.exit(why)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is taken down
    result = run([loss for loss in LOSSES if asked.loss is None or loss.name in asked.loss])
    print(json.dumps(result, indent=2) if asked.json else as_table(result))


if __name__ == "__main__":
    main()
