"""`deployment/cluster.yaml` on a head, two draft and two target nodes, each with an address."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import httpx
import pytest

from benchmarks import nodes
from benchmarks.served_cluster import Served, served_on
from models.arithmetic.problems import held_out

pytestmark = [pytest.mark.slow, pytest.mark.serve, pytest.mark.timeout(600)]

POOLS = {"draft-1": "draft", "draft-2": "draft", "target-1": "target", "target-2": "target"}
PROBLEMS = list(held_out(12, seed=31))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The configuration as it is; skips where this machine can have no such cluster."""
    why = nodes.impossible()
    if why is not None:
        pytest.skip(why)
    with nodes.cluster() as cluster, served_on(cluster, POOLS) as started:
        yield started


def events_of(url: str, question: str, **atts: Any) -> list[dict[str, Any]]:
    """All that the run says; the last is the account of the whole."""
    body = {
        "model": "atts",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "atts": {"candidates": 4, "seed": 1, "consensus": False, "events": True} | atts,
    }
    told = []
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                if "atts" in chunk:
                    told.append(chunk["atts"])
    return told


def asked_everywhere(served: Served) -> list[list[dict[str, Any]]]:
    """Every problem, asked at one node after the other, six at once."""
    doors = cycle(sorted(served.doors().values()))
    urls = [served.url(next(doors)) for _ in PROBLEMS]
    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(lambda p, url: events_of(url, p.question), PROBLEMS, urls))


@pytest.fixture(scope="module")
def runs(served: Served) -> list[list[dict[str, Any]]]:
    return asked_everywhere(served)


def test_replicas_are_where_their_labels_say(served: Served) -> None:
    labels = {told["node_ip"]: told["labels"] for told in served.cluster.alive().values()}
    for name, pool in POOLS.items():
        assert labels[served.cluster.nodes[name].address]["atts-pool"] == pool
    assert {POOLS[name] for name in served.nodes_of("Draft")} == {"draft"}
    assert {POOLS[name] for name in served.nodes_of("Target")} == {"target"}
    assert len(served.nodes_of("Target")) >= 2
    routers = served.nodes_of("Router")
    assert len(routers) == len(set(routers)) >= 2
    assert "head" not in {replica.node for replica in served.replicas()}


def test_every_node_with_a_replica_is_a_door(served: Served) -> None:
    doors = served.doors()
    assert {replica.node for replica in served.replicas()} <= set(doors.values())
    for address in doors:
        assert httpx.get(f"http://{address}:8000/health", timeout=10).json() == {"status": "ok"}


def test_questions_are_answered_right_at_every_door(runs: list[list[dict[str, Any]]]) -> None:
    right = [run[-1]["answer"] == p.answer for run, p in zip(runs, PROBLEMS, strict=True)]
    assert sum(right) >= 10
    assert all(run[-1]["candidates"]["failed"] == 0 for run in runs)


def test_a_chain_is_drafted_scored_and_taken_over_on_different_nodes(
    served: Served, runs: list[list[dict[str, Any]]]
) -> None:
    """Its segments cross as object refs: replicas of the two pools share no node."""
    at = {replica.id: replica.node for replica in served.replicas()}
    used: dict[str, set[str]] = {
        "SegmentDrafted": set(),
        "SegmentScored": set(),
        "TakenOver": set(),
    }
    for run in runs:
        for event in run:
            if event.get("event") in used:
                used[event["event"]].add(at[event["cost"]["replica"]])
    assert {POOLS[node] for node in used["SegmentDrafted"]} == {"draft"}
    assert {POOLS[node] for node in used["TakenOver"]} == {"target"}
    assert used["SegmentScored"] == {"target-1", "target-2"}


def test_the_metrics_of_all_nodes_add_up_to_what_the_clients_counted(
    served: Served, runs: list[list[dict[str, Any]]]
) -> None:
    answered = len(runs)
    ended = sum((Counter(run[-1]["candidates"]["endings"]) for run in runs), Counter[str]())
    takeovers = sum(run[-1]["takeover_rate"]["takeovers"] for run in runs)
    written = sum(
        run[-1]["tokens"][pool]["generated"] for run in runs for pool in ("draft", "target")
    )

    def arrived() -> bool:
        return round(served.total("ray_atts_request_success_total")) >= answered

    # Ray's workers hand their values to the node's agent every 10 s.
    nodes.until(arrived, 60, "the runs are in the metrics")
    nodes.until(
        lambda: round(served.total("ray_atts_takeovers_total")) >= takeovers, 60, "takeovers"
    )
    scraped = served.metrics()
    assert set(scraped) == {"head", *POOLS}
    assert all(any(name.startswith("ray_node_") for name, _, _ in s) for s in scraped.values())
    assert round(served.total("ray_atts_request_success_total")) == answered
    assert round(served.total("ray_atts_candidates_total")) == ended.total()
    assert round(served.total("ray_atts_takeovers_total")) == takeovers
    generated = served.total("ray_atts_tokens_total", kind="generated")
    assert round(generated) == written
    for pool in ("draft", "target"):
        where = {
            node
            for node, samples in scraped.items()
            for name, labels, _ in samples
            if name == "ray_atts_engine_up" and labels["role"] == pool
        }
        assert {POOLS[node] for node in where} == {pool}
