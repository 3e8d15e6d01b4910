"""Two routers and the store as real processes under Ray Serve, under load, with deaths."""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve

from services.store import scores
from services.store.database import open_database
from tests.services.gates import PAIR, application

pytestmark = pytest.mark.serve

PAUSE = 0.01
"""Seconds between two decisions of one candidate: 16 of them make 1,600 decisions a second."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray of our own, without Serve's HTTP."""
    # As `atts serve` has it for a cluster of its own; Ray's default would leave a token at home.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 1024**2,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    serve.start(proxy_location="Disabled")
    yield
    serve.shutdown()
    ray.shutdown()


class System:
    """The running application, in the words of the tests."""

    def __init__(self, url: str, origins: str) -> None:
        serve.run(application(url, origins), name="gates", route_prefix=None)
        self._url = url
        self._origins = origins
        self._a, self._b, self._store = (
            serve.get_deployment_handle(name, "gates") for name in (*origins, "CalibrationStore")
        )

    def both(self, method: str, *arguments: Any) -> list[Any]:
        called = [getattr(h, method).remote(*arguments) for h in (self._a, self._b)]
        return [response.result(timeout_s=300) for response in called]

    def even(self) -> list[dict[str, Any]]:
        """Both routers' states once each has all of its own committed and all of the other's."""
        (first, second), (a, b) = self._origins, self.both("state")
        waiting = self._a.even.remote(second, b["made"]), self._b.even.remote(first, a["made"])
        return [response.result(timeout_s=300) for response in waiting]

    def kill_store(self) -> None:
        os.kill(self._store.process.remote().result(timeout_s=60), signal.SIGKILL)

    def kept(self) -> dict[str, list[int]]:
        """The sequences in the database, by origin, in the order of arrival."""
        database = open_database(self._url)
        with database.transaction() as connection:
            place = scores.find(connection, PAIR)
            assert place is not None
            found: dict[str, list[int]] = {}
            for record in scores.everything(connection, place.id):
                found.setdefault(record.origin, []).append(record.sequence)
        database.close()
        return found


MEASURED = ("decision", "lateness of its candidate", "own work meanwhile")


def tell(what: str, took: list[tuple[float, float, float]]) -> None:
    """Percentiles in microseconds of what `RouterSide.decide` measures."""
    for name, values in zip(MEASURED, zip(*took, strict=True), strict=True):
        cuts = statistics.quantiles(values, n=1000)
        p50, p99, p999 = (cuts[at] * 1e6 for at in (499, 989, 998))
        print(f"{what}, {len(values)} × {name}: p50 {p50:.0f} p99 {p99:.0f} p99.9 {p999:.0f} µs")


def exchange_under_load(url: str, count: int, deaths: int) -> None:
    """`count` decisions a router, in which the store is killed `deaths` times."""
    system = System(url, "ab")
    assert system.both("start") == [0, 0]
    before = list(chain(*system.both("decide", count, PAUSE)))
    during: list[tuple[float, float, float]] = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(deaths):
            deciding = pool.submit(system.both, "decide", count, PAUSE)
            reported = {o: s["committed"] for o, s in zip("ab", system.both("state"), strict=True)}
            system.kill_store()
            there = system.kept()
            for origin, committed in reported.items():
                assert len(there.get(origin, [])) >= committed
            during += chain(*deciding.result())
            system.even()
    states = system.even()
    made = (1 + deaths) * count
    everything = list(range(1, made + 1))
    assert system.kept() == {"a": everything, "b": everything}
    for state, other in zip(states, "ba", strict=True):
        assert (state["made"], state["seen"], state["size"]) == (made, {other: made}, 2 * made)
        assert state["store_error"] is None
    tell("\nwith the store", before)
    tell(f"while it was killed {deaths}×", during)
    # The orderly end of both routers hands over what they have just made.
    system.both("decide", 100, 0)
    assert system.both("stop") == [0, 0]
    serve.delete("gates")
    assert {origin: len(there) for origin, there in system.kept().items()} == {
        "a": made + 100,
        "b": made + 100,
    }


def restart_keeps_all(url: str, made: int) -> None:
    """Everything has ended; what begins anew is warm with every score."""
    again = System(url, "cd")
    assert min(again.both("start")) > 0
    assert again.both("grown", made) == [made, made]
    serve.delete("gates")


@pytest.mark.timeout(600)
def test_every_score_arrives_once_though_the_store_is_killed(cluster: None, tmp_path: Path) -> None:
    exchange_under_load(f"sqlite:///{tmp_path}/calibration.db", count=1_500, deaths=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_score_arrives_once_at_full_size_and_outlives_everything(
    cluster: None, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/calibration.db"
    exchange_under_load(url, count=20_000, deaths=4)
    restart_keeps_all(url, 2 * (5 * 20_000 + 100))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_score_arrives_once_on_postgresql(cluster: None, postgres: str) -> None:
    exchange_under_load(postgres, count=10_000, deaths=2)
