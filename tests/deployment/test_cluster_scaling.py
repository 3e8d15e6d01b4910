"""Pools grow and shrink by their own load while questions are open, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks import nodes
from benchmarks.cluster_load import Load
from benchmarks.served_cluster import Served, served_on

pytestmark = [pytest.mark.slow, pytest.mark.serve, pytest.mark.timeout(600)]

POOLS = {"draft-1": "draft", "draft-2": "draft", "target-1": "target", "target-2": "target"}
# One replica for a few clients, two for many; within seconds, where the shipped ones take minutes.
FAST = {
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 8,
        "look_back_period_s": 4,
        "metrics_interval_s": 1,
        "upscale_delay_s": 2,
        "downscale_delay_s": 6,
    }
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    why = nodes.impossible()
    if why is not None:
        pytest.skip(why)
    with (
        nodes.cluster() as cluster,
        served_on(cluster, POOLS, Draft=FAST, Target=FAST) as started,
    ):
        yield started


def sizes(served: Served) -> tuple[int, int]:
    return len(served.nodes_of("Draft")), len(served.nodes_of("Target"))


async def until_sizes(served: Served, wanted: tuple[int, int]) -> None:
    await asyncio.to_thread(
        nodes.until, lambda: sizes(served) == wanted, 180, f"replicas are {wanted}"
    )


async def test_scaling_both_pools_up_and_down_under_load_loses_nothing(served: Served) -> None:
    doors = list(served.doors())
    assert sizes(served) == (1, 1)
    async with Load(doors, at_once=20, seed=1) as many:
        await until_sizes(served, (2, 2))
        await many.answered(20)
        # The last of the many are open still when the pools begin to shrink below the few.
        async with Load(doors, at_once=2, candidates=2, seed=2) as few:
            await many.stop()
            await until_sizes(served, (1, 1))
            await few.answered(10)
    asked = many.asked + few.asked
    assert Counter(a.outcome for a in asked) == {"answered": len(asked)}, [a.said for a in asked]
    assert sum(a.details["candidates"]["failed"] for a in asked) == 0
    assert sum(a.right for a in asked) >= 0.8 * len(asked)
    await asyncio.to_thread(nodes.until, lambda: not served.busy(), 30, "the engines are idle")
