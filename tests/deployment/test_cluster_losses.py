"""Nodes are lost while 20 questions are open: each is answered, or says to be repeated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import create_engine, text

from benchmarks import nodes, recovery
from benchmarks.recovery import Account, lose
from benchmarks.served_cluster import CONFIG, Served, served_on
from services import serve_config
from tests.services.postgres import Server, postgres_server

pytestmark = [pytest.mark.slow, pytest.mark.serve, pytest.mark.timeout(900)]

PASSWORD = "of-the-store"
LOSSES = {loss.name: loss for loss in recovery.LOSSES}


@pytest.fixture(scope="module")
def system() -> Iterator[tuple[Served, Server]]:
    """Head, two draft, two target and three router nodes, Redis for the head, and PostgreSQL."""
    why = nodes.impossible()
    if why is not None:
        pytest.skip(why)
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    with ExitStack() as stack:
        cluster = stack.enter_context(nodes.cluster(redis=True))
        database = stack.enter_context(postgres_server(cluster.network.here, PASSWORD))
        cluster.environment["PGPASSWORD"] = PASSWORD
        yield stack.enter_context(served_on(cluster, store=database.url, apart=True)), database


def kept(database: Server) -> int:
    """Scores in the store's database, asked for with the nodes' own password."""
    url = database.url.replace("postgresql://atts@", f"postgresql+psycopg://atts:{PASSWORD}@")
    engine = create_engine(url)
    with engine.connect() as connection:
        count = connection.execute(text("select count(*) from atts_scores")).scalar_one()
    engine.dispose()
    return int(count)


async def account_of(served: Served, name: str) -> Account:
    account = await lose(served, LOSSES[name])
    print(f"\n{recovery.as_table(recovery.result_of(served, [account]))}")
    for said in account.errors:
        print(said)
    return account


def require_nothing_lost(account: Account) -> None:
    """Beyond the connections of clients that spoke to the node itself."""
    assert account.outcomes.get("wrong", 0) == 0, account.errors
    assert account.failed_candidates == 0, account.errors
    assert account.open == recovery.AT_ONCE
    assert account.right >= 0.8
    assert account.whole < recovery.WHOLE_SECONDS + account.stalled


@pytest.mark.parametrize("name", ["target", "draft", "target-cut", "draft-cut"])
async def test_a_lost_engine_costs_its_chains_their_kv_only(
    system: tuple[Served, Server], name: str
) -> None:
    """Every question is answered, with all of its chains."""
    account = await account_of(system[0], name)
    require_nothing_lost(account)
    assert account.outcomes.get("retryable", 0) == 0, account.errors
    # A question may use up its time where the lost node says nothing, and no more than that.
    deadline = serve_config.load(CONFIG).settings.method.deadline_ms
    assert deadline is not None
    assert account.longest < deadline / 1000 + 10 + account.stalled


async def test_the_questions_of_a_lost_router_are_to_be_repeated(
    system: tuple[Served, Server],
) -> None:
    account = await account_of(system[0], "router")
    require_nothing_lost(account)
    assert account.outcomes.get("retryable", 0) <= recovery.AT_ONCE
    assert account.trouble < 10 + account.stalled, "the others were not concerned"


async def test_a_lost_store_costs_no_question_of_another_router(
    system: tuple[Served, Server],
) -> None:
    """The database is elsewhere: it has every score that it had, and takes more."""
    served, database = system
    before = kept(database)
    account = await account_of(served, "store")
    require_nothing_lost(account)
    if "Router" not in account.lost:
        assert account.outcomes.get("retryable", 0) == 0, account.errors
    nodes.until(lambda: kept(database) > before, 60, "the store takes scores again")


async def test_a_lost_head_costs_nothing(system: tuple[Served, Server]) -> None:
    """Redis has what it knew: the nodes go on without it, and it finds them again."""
    account = await account_of(system[0], "head")
    require_nothing_lost(account)
    assert account.outcomes.get("retryable", 0) == 0, account.errors
