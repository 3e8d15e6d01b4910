"""The calibration store on SQLite and PostgreSQL: once each, durable, bounded, migrated."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import create_engine, insert, select, text

from atts_core.calibration.keys import Batch, PairKey, Record
from atts_core.errors import AttsError, BadInput
from services.calibration_store import CalibrationStore
from services.settings import StoreSettings
from services.store import schema, scores, transfer
from services.store.database import MIGRATIONS, Database, open_database, state_file
from services.store.exchange import Cursor, Exchange
from tests.services.postgres import postgres_server

PAIR = PairKey("draft@1", "target@2", "template", "mean-nll")
OTHER = PairKey("draft@1", "target@3", "template", "mean-nll")
SPAWN = multiprocessing.get_context("spawn")


def records(origin: str, first: int, last: int) -> tuple[Record, ...]:
    return tuple(Record(origin, n, n % 3, -n / 7) for n in range(first, last + 1))


def batch(*several: tuple[Record, ...], pair: PairKey = PAIR) -> Batch:
    return Batch(pair, tuple(record for some in several for record in some))


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database that several stores can use."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/calibration.db"
        return
    server: str = request.getfixturevalue("postgres")
    yield server
    with connected(server) as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


@contextmanager
def connected(url: str) -> Iterator[SqlConnection]:
    """A plain transaction in a database, without anything of the store's."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@asynccontextmanager
async def store(url: str, keep: int = 10_000) -> AsyncIterator[CalibrationStore]:
    opened = CalibrationStore(StoreSettings(url=url), keep)
    try:
        yield opened
    finally:
        opened.close()


async def everything(store: CalibrationStore, pair: PairKey = PAIR) -> list[Record]:
    """What a new router is given, over as many replies as it takes."""
    found: list[Record] = []
    cursor, more = None, True
    while more:
        got = await store.exchange(Batch(pair, ()), "reader", cursor)
        found += got.batch.records
        cursor, more = got.cursor, got.more
    return found


# ------------------------------------------------------------------------------- exactly once


async def test_what_one_router_made_reaches_the_others_once_and_itself_never(shared: str) -> None:
    async with store(shared) as kept:
        first = await kept.exchange(batch(records("a", 1, 5)), "a", None)
        assert (first.committed, first.batch.records) == (5, ())
        seen = await kept.exchange(batch(records("b", 1, 2)), "b", None)
        assert seen.batch.records == records("a", 1, 5)
        again = await kept.exchange(batch(records("b", 3, 3)), "b", seen.cursor)
        assert (again.committed, again.batch.records) == (3, ())
        back = await kept.exchange(batch(), "a", first.cursor)
        assert back.batch.records == records("b", 1, 3)


async def test_an_upload_whose_acknowledgement_was_lost_counts_once(shared: str) -> None:
    async with store(shared) as kept:
        await kept.exchange(batch(records("a", 1, 5)), "a", None)
        repeated = await kept.exchange(batch(records("a", 1, 8)), "a", None)
        late = await kept.exchange(batch(records("a", 2, 6)), "a", None)
        assert (repeated.committed, late.committed) == (8, 8)
        assert await everything(kept) == list(records("a", 1, 8))


async def test_what_was_pruned_does_not_come_back_by_a_repeated_upload(shared: str) -> None:
    async with store(shared, keep=3) as kept:
        await kept.exchange(batch(records("a", 1, 5)), "a", None)
        await kept.exchange(batch(records("a", 1, 5)), "a", None)
        assert await everything(kept) == list(records("a", 3, 5))


async def test_two_pairs_never_meet(shared: str) -> None:
    async with store(shared) as kept:
        await kept.exchange(batch(records("a", 1, 5)), "a", None)
        await kept.exchange(batch(records("a", 1, 2), pair=OTHER), "a", None)
        assert len(await everything(kept)) == 5
        assert len(await everything(kept, OTHER)) == 2


async def test_a_router_that_was_away_gets_all_it_missed_in_several_replies(shared: str) -> None:
    async with store(shared) as kept:
        for first in range(1, 1_500, 500):
            await kept.exchange(batch(records("a", first, first + 499)), "a", None)
        assert await everything(kept) == list(records("a", 1, 1_500))


async def test_two_stores_on_one_database_take_every_score_once(shared: str) -> None:
    """Each of four routers sends everything through both stores at once."""
    async with store(shared) as one, store(shared) as two:

        async def upload(through: CalibrationStore, origin: str) -> int:
            for first in range(1, 100, 20):
                got = await through.exchange(
                    batch(records(origin, first, first + 19)), origin, None
                )
            return got.committed

        done = await asyncio.gather(*(upload(s, o) for s in (one, two) for o in "abcd"))
        assert done == [100] * 8
        found = await everything(one)
        assert len(found) == len(set(found)) == 400
        for origin in "abcd":
            assert tuple(r for r in found if r.origin == origin) == records(origin, 1, 100)


async def test_a_reader_misses_nothing_while_two_stores_write(shared: str) -> None:
    """A place in the order is seen only when every place before it is: nothing slips below."""
    async with store(shared) as one, store(shared) as two, store(shared) as three:
        writing = True
        read: list[Record] = []

        async def write(through: CalibrationStore, origin: str) -> None:
            for n in range(1, 41):
                await through.exchange(batch(records(origin, n, n)), origin, None)

        async def follow() -> None:
            cursor: Cursor | None = None
            last = False
            while not last:
                last = not writing
                got: Exchange = await three.exchange(batch(), "reader", cursor)
                read.extend(got.batch.records)
                cursor = got.cursor

        following = asyncio.create_task(follow())
        await asyncio.gather(write(one, "a"), write(two, "b"))
        writing = False
        await following
        assert len(read) == len(set(read)) == 80


# ---------------------------------------------------------------------------- bounds and life


async def test_only_the_newest_scores_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calibration.db"
    async with store(url, keep=700) as kept:
        for first in range(1, 3_000, 500):
            await kept.exchange(batch(records("a", first, first + 499)), "a", None)
        assert await everything(kept) == list(records("a", 2_301, 3_000))
    opened = open_database(url)
    with opened.transaction() as connection:
        place = scores.find(connection, PAIR)
        assert place is not None
        assert scores.kept(connection, place.id) < 700 + 1_000
    opened.close()


async def test_a_restarted_store_has_everything(shared: str) -> None:
    async with store(shared) as before:
        committed = await before.exchange(batch(records("a", 1, 400)), "a", None)
        reader = await before.exchange(batch(), "b", None)
    async with store(shared) as after:
        assert await everything(after) == list(records("a", 1, 400))
        again = await after.exchange(batch(records("a", 1, 401)), "a", committed.cursor)
        assert again.committed == 401
        new = await after.exchange(batch(), "b", reader.cursor)
        assert new.batch.records == records("a", 401, 401)


async def test_a_reset_makes_routers_forget_and_discards_what_they_made_before(
    shared: str,
) -> None:
    async with store(shared) as kept:
        before = await kept.exchange(batch(records("a", 1, 5)), "a", None)
        opened = open_database(shared)
        with opened.transaction() as connection:
            assert scores.reset(connection, PAIR) == 5
        opened.close()
        told = await kept.exchange(batch(records("a", 6, 7)), "a", before.cursor)
        assert (told.forget, told.committed) == (True, 7)
        after = await kept.exchange(batch(records("a", 8, 9)), "a", told.cursor)
        assert not after.forget
        assert await everything(kept) == list(records("a", 8, 9))


async def test_a_replaced_database_is_read_from_its_beginning(tmp_path: Path) -> None:
    async with store("memory") as lost:
        far = (await lost.exchange(batch(records("a", 1, 9)), "a", None)).cursor
    async with store(f"sqlite:///{tmp_path}/new.db") as new:
        await new.exchange(batch(records("b", 1, 2)), "b", None)
        got = await new.exchange(batch(), "a", far)
        assert got.batch.records == records("b", 1, 2)
        assert not got.forget


def _upload_until_killed(url: str, told: Connection) -> None:
    """A store in its own process: every committed sequence is told at once."""

    async def upload() -> None:
        async with store(url) as dying:
            for n in range(1, 1_000_000):
                got = await dying.exchange(batch(records("a", n, n)), "a", None)
                told.send(got.committed)

    asyncio.run(upload())


async def test_what_was_committed_survives_the_death_of_the_store(shared: str) -> None:
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_upload_until_killed, args=(shared, there))
    process.start()
    there.close()
    told = [here.recv() for _ in range(30)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while True:
        try:
            told.append(here.recv())
        except EOFError:
            break
    async with store(shared) as after:
        found = await everything(after)
    # One more may be in: it was committed, but death came before the word of it.
    assert len(found) in (told[-1], told[-1] + 1)
    assert found == list(records("a", 1, len(found)))


@pytest.mark.slow
async def test_a_database_server_that_comes_back_is_used_again_with_all_it_had() -> None:
    with postgres_server() as server:
        async with store(server.url) as kept:
            await kept.exchange(batch(records("a", 1, 5)), "a", None)
            server.stop()
            with pytest.raises(AttsError, match=r"postgresql://atts@127\.0\.0\.1:\d+/postgres: "):
                await kept.exchange(batch(records("a", 1, 7)), "a", None)
            server.start()
            await kept.exchange(batch(records("a", 1, 7)), "a", None)
            assert await everything(kept) == list(records("a", 1, 7))


async def test_scores_are_carried_out_and_after_a_reset_in_again_once(shared: str) -> None:
    async with store(shared) as kept:
        await kept.exchange(batch(records("a", 1, 5)), "a", None)
        opened = open_database(shared)
        with opened.transaction() as connection:
            exported = transfer.export(connection, opened.id, PAIR)
            scores.reset(connection, PAIR)
        for expected in (5, 0):
            with opened.transaction() as connection:
                _, new = transfer.take_in(connection, opened.id, exported, None, keep=100)
            assert new == expected
        opened.close()
        found = await everything(kept)
        assert [(r.origin, r.sequence) for r in found] == [("a@1", n) for n in range(1, 6)]


# --------------------------------------------------------------------------------- migrations


def _upgraded(connection: SqlConnection, revision: str) -> None:
    """A database as an earlier version of this package left it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _open_in_a_process(url: str) -> str:
    opened = open_database(url)
    opened.close()
    return opened.id


def test_a_new_database_has_the_schema_that_the_code_has(shared: str) -> None:
    opened = open_database(shared)
    with opened.engine.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []
    opened.close()


async def test_an_older_database_is_migrated_with_all_its_scores(shared: str) -> None:
    row = {"draft": PAIR.draft, "target": PAIR.target, "template": PAIR.template}
    row |= {"score": PAIR.score}
    columns = ("origin", "sequence", "turn", "conformity")
    with connected(shared) as connection:
        _upgraded(connection, "0001")
        connection.execute(
            text(
                "INSERT INTO atts_pairs (id, draft, target, template, score, arrived) "
                "VALUES (1, :draft, :target, :template, :score, 3)"
            ),
            row,
        )
        connection.execute(
            insert(schema.scores),
            [
                {"pair_id": 1, "position": r.sequence} | {c: getattr(r, c) for c in columns}
                for r in records("a", 1, 3)
            ],
        )
    async with store(shared) as migrated:
        assert await everything(migrated) == list(records("a", 1, 3))


@pytest.mark.slow
def test_stores_that_start_at_once_make_one_database(shared: str) -> None:
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        assert len(set(pool.map(_open_in_a_process, [shared] * 3))) == 1


def test_a_database_of_a_newer_version_is_refused(shared: str) -> None:
    opened = open_database(shared)
    with opened.transaction() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    opened.close()
    with pytest.raises(BadInput, match=r"newer version of atts \(its schema is 9999"):
        open_database(shared)


# ------------------------------------------------------------------------------- bad databases


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://me:secret@there/db", r"found 'mysql'; allowed are sqlite:///FILE"),
        ("calibration.db", "found 'no scheme'"),
        ("postgresql://me:secret@there:port/db", "allowed are"),
        ("sqlite:////proc/nowhere/calibration.db", "name a file in a folder that can be written"),
        (
            "postgresql://me:secret@127.0.0.1:1/db",
            r"postgresql://me:\*\*\*@127.0.0.1:1/db cannot be used: .*check that the server runs",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        open_database(url)
    assert caught.value.field == "store.url"
    assert "secret" not in caught.value.message


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but dear to somebody\n" * 100)
    with pytest.raises(BadInput, match=r"notes\.txt cannot be used: file is not a database"):
        open_database(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database")


async def test_where_it_is_not_required_memory_serves_with_a_loud_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = StoreSettings(url="postgresql://me:secret@127.0.0.1:1/db", required=False)
    with caplog.at_level(logging.ERROR):
        lone = CalibrationStore(settings, 100)
    assert "IN MEMORY ONLY" in caplog.text
    assert "secret" not in caplog.text
    got = await lone.exchange(batch(records("a", 1, 3)), "a", None)
    assert (got.committed, got.durable, got.database) == (3, False, "memory")
    lone.close()


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("/var/lib/me", "/var/lib/me/atts/calibration.db"), ("relative", None), ("", None)],
)
def test_without_a_url_scores_are_in_the_user_s_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, expected: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", variable)
    fallback = f"{tmp_path}/.local/state/atts/calibration.db"
    assert str(state_file()) == (expected or fallback)


def test_no_position_is_given_twice(tmp_path: Path) -> None:
    opened: Database = open_database(f"sqlite:///{tmp_path}/c.db")
    with opened.transaction() as connection:
        place = scores.lock(connection, PAIR)
        scores.append(connection, place, records("a", 1, 3))
    with opened.transaction() as connection:
        scores.append(connection, scores.lock(connection, PAIR), records("b", 1, 3))
        found: list[Any] = list(connection.execute(select(schema.scores.c.position)).scalars())
    assert sorted(found) == [1, 2, 3, 4, 5, 6]
    opened.close()
