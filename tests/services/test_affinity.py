"""A chain's order of replicas, without a cluster."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.affinity import preferred, ranked

REPLICAS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8, unique=True)


@given(st.text(), REPLICAS)
def test_a_chains_order_does_not_depend_on_the_order_of_replicas(
    chain: str, replicas: list[str]
) -> None:
    assert preferred(chain, replicas) == preferred(chain, sorted(replicas))


@given(st.text(), REPLICAS, st.data())
def test_a_lost_replica_moves_its_own_chains_only(
    chain: str, replicas: list[str], data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(replicas))
    left = [name for name in replicas if name != lost]
    assert preferred(chain, left) == [name for name in preferred(chain, replicas) if name != lost]


def test_chains_spread_over_all_replicas() -> None:
    first = Counter(preferred(f"run/{i}", ["a", "b", "c", "d"])[0] for i in range(4000))
    assert all(900 < count < 1100 for count in first.values())


def test_a_request_waits_for_its_own_replica_unless_that_has_much_more_to_do() -> None:
    own, other = preferred("run/0", ["a", "b"])
    assert ranked("run/0", {own: 16, other: 0}) == [own, other]
    assert ranked("run/0", {own: 17, other: 0}) == [other, own]
    assert ranked("run/0", {own: 36, other: 10}) == [own, other]
    assert ranked("run/0", {own: 37, other: 10}) == [other, own]


def test_where_all_queues_are_long_affinity_holds() -> None:
    queues = {"a": 400, "b": 500}
    assert ranked("run/0", queues) == preferred("run/0", ["a", "b"])
