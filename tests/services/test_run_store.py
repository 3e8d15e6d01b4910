"""The history of runs on SQLite and PostgreSQL: whole, bounded, one run a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from atts_core.events import CandidateStarted, Event, SegmentWritten, as_json
from atts_core.types import EngineCost
from services import run_store
from services.run_store import RunStore
from services.runs.archive import Ending, Identity, Page, Upload
from services.settings import RunSettings
from services.store import runs
from services.store.database import open_database

ROUTER, OTHER = "a" * 32, "b" * 32
DONE = Ending("finished", 2.0, reply={"id": "x", "text": "é\u0000"})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/runs.db"
        return
    server: str = request.getfixturevalue("postgres")
    yield server
    database = open_database(server)
    with database.transaction() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    database.close()


class Clock:
    """Seconds since 1970, as the store reads them."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_store, "time", clock)
    return clock


@asynccontextmanager
async def store(url: str, **settings: Any) -> AsyncIterator[RunStore]:
    database = open_database(url)
    with ThreadPoolExecutor(4 if "postgresql" in url else 1) as threads:
        yield RunStore(database, threads, RunSettings.model_validate(settings))
    database.close()


def identity(run_id: str = "r", **fields: Any) -> Identity:
    return Identity(run_id, "", {"model": "atts", "seed": 1, "method": {}}, 1_000.0, **fields)


def events(first: int, last: int) -> tuple[Event, ...]:
    return tuple(CandidateStarted(float(n), n) for n in range(first, last))


async def read(kept: RunStore, run_id: str = "r", after: int = 0, limit: int = 1_000) -> Page:
    page = await kept.read(run_id, "", after, limit)
    assert page is not None
    return page


def shown(first: int, last: int) -> list[dict[str, Any]]:
    return [as_json(event) for event in events(first, last)]


async def test_events_come_back_in_order_from_wherever_one_reads(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        for first in range(0, 30, 10):
            await kept.upload(ROUTER, [Upload(identity(), first, events(first, first + 10))])
        page = await read(kept)
        assert (page.events, page.next, page.more) == (shown(0, 30), 30, False)
        page = await read(kept, after=7, limit=5)
        assert (page.events, page.next, page.more) == (shown(7, 12), 12, True)
        page = await read(kept, after=30)
        assert (page.events, page.next, page.more) == ([], 30, False)
        assert (page.status, page.ending) == ("running", None)


async def test_a_run_that_has_ended_comes_back_with_its_end(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        receipt = await kept.upload(ROUTER, [Upload(identity(), 0, events(0, 3), DONE)])
        assert receipt.ended == {"r"}
        page = await read(kept)
    assert (page.status, page.ending, page.identity.question["seed"]) == ("finished", DONE, 1)


async def test_a_repeated_upload_is_kept_once_and_a_gap_is_asked_for_again(
    url: str, clock: Clock
) -> None:
    async with store(url) as kept:
        await kept.upload(ROUTER, [Upload(identity(), 0, events(0, 5))])
        await kept.upload(ROUTER, [Upload(identity(), 0, events(0, 5))])
        await kept.upload(ROUTER, [Upload(identity(), 3, events(3, 7))])
        gap = await kept.upload(ROUTER, [Upload(identity(), 9, events(9, 11), DONE)])
        assert (gap.events, gap.ended) == ({"r": 7}, frozenset())
        whole = await kept.upload(ROUTER, [Upload(identity(), 7, events(7, 11), DONE)])
        assert (whole.events, whole.ended) == ({"r": 11}, {"r"})
        assert (await read(kept)).events == shown(0, 11)


async def test_another_owner_s_run_is_unknown(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        await kept.upload(ROUTER, [Upload(identity(), 0, events(0, 5))])
        assert await kept.read("r", "ben", 0, 10) is None
        assert await kept.cancel("r", "ben") is None
        assert await kept.follow("r", "ben", OTHER, 0) is None
        again = await kept.upload(ROUTER, [Upload(identity(), 5, ())])
    assert (again.cancelled, again.followed) == (frozenset(), frozenset())


async def test_a_run_s_router_learns_who_cancels_and_who_follows_it(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        alive = Upload(identity(), 0, events(0, 1))
        await kept.upload(ROUTER, [alive])
        await kept.follow("r", "", OTHER, 0)
        assert (await kept.upload(ROUTER, [alive])).followed == {"r"}
        await kept.leave("r", OTHER)
        assert (await kept.upload(ROUTER, [alive])).followed == frozenset()
        await kept.follow("r", "", OTHER, 0)
        clock.now += runs.FOLLOWS_FOR + 1
        assert (await kept.upload(ROUTER, [alive])).followed == frozenset()
        await kept.cancel("r", "")
        assert (await kept.upload(ROUTER, [alive])).cancelled == {"r"}


async def test_a_run_whose_router_is_silent_counts_as_lost_with_it(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        await kept.upload(ROUTER, [Upload(identity(), 0, events(0, 1))])
        for _ in range(10):
            clock.now += runs.LOST_AFTER / 2
            await kept.upload(ROUTER, [Upload(identity(), 1, ())])
        assert (await read(kept)).status == "running"
        clock.now += runs.LOST_AFTER + 1
        page = await read(kept)
    assert page.status == "failed"
    assert page.ending is not None
    assert page.ending.error is not None
    assert page.ending.error[0] == 503
    assert page.ending.error[1]["error"]["code"] == "run_lost"


# ---------------------------------------------------------------------------------------- keys


async def test_of_many_routers_that_claim_a_key_at_once_one_gets_it(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        claims = await asyncio.gather(
            *(kept.claim(f"{n}", identity(f"r{n}", key="k", fingerprint="f")) for n in range(20))
        )
        (winner,) = {claim.run_id for claim in claims}
        receipt = await kept.upload("x", [Upload(identity(winner), 0, ())])
    assert {claim.fingerprint for claim in claims} == {"f"}
    assert receipt.followed == {winner}, "those who came too late wait for it"


def other_owner(run: Identity) -> Identity:
    return Identity(run.id, "ben", run.question, run.created, run.key)


async def test_keys_of_two_owners_never_meet(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        await kept.claim(ROUTER, identity("one", key="k"))
        claim = await kept.claim(ROUTER, other_owner(identity("two", key="k")))
    assert claim.run_id == "two"


@pytest.mark.parametrize(
    ("ending", "free"),
    [
        (DONE, False),
        (Ending("cancelled", 2.0), False),
        (Ending("cancelled", 2.0, released=True), True),
        (Ending("failed", 2.0, error=(503, {"error": {"message": "x"}}), released=True), True),
    ],
)
async def test_a_key_is_free_again_once_its_run_has_released_it(
    url: str, clock: Clock, ending: Ending, free: bool
) -> None:
    async with store(url) as kept:
        await kept.claim(ROUTER, identity("one", key="k"))
        await kept.upload(ROUTER, [Upload(identity("one", key="k"), 0, (), ending)])
        claim = await kept.claim(OTHER, identity("two", key="k"))
    assert claim.run_id == ("two" if free else "one")


async def test_a_key_of_a_lost_run_is_free_again(url: str, clock: Clock) -> None:
    async with store(url) as kept:
        await kept.claim(ROUTER, identity("one", key="k"))
        clock.now += runs.LOST_AFTER + 1
        assert (await kept.claim(OTHER, identity("two", key="k"))).run_id == "two"


# -------------------------------------------------------------------------------------- bounds


async def fill(kept: RunStore, count: int, size: int = 1) -> None:
    """`count` runs that have ended, a second apart, the oldest first."""
    long = SegmentWritten(0.0, 0, 0, "draft", "x" * size, 1, "stop", 0.1, EngineCost())
    for n in range(count):
        run = Identity(f"r{n}", "", {}, 1_000.0 + n, key=None)
        await kept.upload(ROUTER, [Upload(run, 0, (long,), DONE)])


async def there(kept: RunStore, count: int) -> set[int]:
    found = [await kept.read(f"r{n}", "", 0, 0) for n in range(count)]
    return {n for n, page in enumerate(found) if page is not None}


PRUNED: list[tuple[dict[str, Any], int, Callable[[set[int]], bool]]] = [
    ({"max_runs": 15}, 1, lambda left: left == set(range(45, 60))),
    ({"max_bytes": 1_000_000}, 90_000, lambda left: left == set(range(49, 60))),
]


@pytest.mark.parametrize(("bounds", "size", "as_it_should"), PRUNED)
async def test_the_oldest_runs_leave_where_there_are_too_many(
    url: str, clock: Clock, bounds: dict[str, Any], size: int, as_it_should: Any
) -> None:
    async with store(url, **bounds) as kept:
        going_on = Identity("old", "", {}, 0.0)
        await kept.upload(ROUTER, [Upload(going_on, 0, events(0, 1))])
        await fill(kept, 3 * run_store.PRUNE_EVERY, size)
        assert as_it_should(await there(kept, 60))
        assert await kept.read("old", "", 0, 0) is not None, "what runs stays, however old"


async def test_a_run_beyond_its_age_is_unknown_at_once_and_removed_later(
    url: str, clock: Clock
) -> None:
    async with store(url, max_age_seconds=100) as kept:
        await kept.upload(ROUTER, [Upload(identity(key="k"), 0, events(0, 1), DONE)])
        clock.now += 101
        assert await kept.read("r", "", 0, 1) is None
        await fill(kept, run_store.PRUNE_EVERY)
        left = await kept._done(lambda c, now: c.execute(text("SELECT id FROM atts_runs")).all())
    assert "r" not in {row.id for row in left}
