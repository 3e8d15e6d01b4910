"""Opening the store's database: its URL, its guarantees, its schema brought up to date."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from atts_core.errors import AttsError, BadInput
from services.store import schema

MEMORY = "memory"
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x41545453
"""The key of PostgreSQL's advisory lock: two stores that start at once migrate one by one."""

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


@dataclass(frozen=True)
class Database:
    """An open database with an up-to-date schema; `id` tells it from every other one."""

    engine: Engine
    id: str
    shown: str
    durable: bool

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All of it or nothing; a database's failure comes out as `AttsError` without its SQL."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise AttsError(f"{self.shown}: {_reason(error)}") from None

    def close(self) -> None:
        self.engine.dispose()


def state_file() -> Path:
    """Where scores are kept unless a URL says otherwise (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return home / "atts" / "calibration.db"


def open_database(url: str | None, *, create: bool = True) -> Database:
    """The database at `url` (None: the state file), migrated, and with `create` made, where needed.

    Raises `BadInput` that names the database, never its password, and says what can be done.
    """
    where = _located(url)
    shown = MEMORY if where.database in (None, "", ":memory:") else _shown(where)
    if not create and where.get_backend_name() == "sqlite" and not _there(where):
        raise BadInput(
            f"store.url: {shown} holds no scores: there is no such file; "
            "a server makes it when it starts",
            field="store.url",
        )
    engine = None
    try:
        engine = _engine(where, shown)
        with engine.connect() as connection, connection.begin():
            _migrate(connection, shown)
            found = connection.execute(select(schema.database.c.id)).scalar_one()
        return Database(engine, found, shown, durable=shown != MEMORY)
    except (DBAPIError, OSError, ImportError) as error:
        if engine is not None:
            engine.dispose()
        raise BadInput(
            f"store.url: {shown} cannot be used: {_reason(error)}; {_advice(where, error)}, or set "
            "store.required to false to go on without keeping scores",
            field="store.url",
        ) from None


def _located(url: str | None) -> URL:
    if url == MEMORY:
        return URL.create(DRIVERS["sqlite"])
    if url is None:
        return URL.create(DRIVERS["sqlite"], database=str(state_file()))
    try:
        parsed = make_url(url)
        driver = DRIVERS[parsed.drivername]
    except (ArgumentError, NoSuchModuleError, ValueError, KeyError):
        # Not the whole text: it may hold a password.
        found = url.partition("://")[0] if "://" in url else "no scheme"
        raise BadInput(
            f"store.url: found {found!r}; allowed are sqlite:///FILE, "
            f"postgresql://USER@HOST/DATABASE and {MEMORY}",
            field="store.url",
        ) from None
    if driver != DRIVERS["sqlite"] or not parsed.database:
        return parsed.set(drivername=driver)
    return parsed.set(drivername=driver, database=str(Path(parsed.database).expanduser()))


def _shown(url: URL) -> str:
    """The URL as a person may see it: the usual scheme, a password as three stars."""
    plain = url.set(drivername=url.get_backend_name())
    return plain.render_as_string(hide_password=True)


def _there(url: URL) -> bool:
    return url.database is not None and Path(url.database).exists()


def _engine(url: URL, shown: str) -> Engine:
    if url.get_backend_name() == "postgresql":
        # A server that vanished is given up after seconds, not after the kernel's quarter of an
        # hour; one that came back is found by the ping.
        wait = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10}
        return create_engine(url, pool_pre_ping=True, connect_args=wait, hide_parameters=True)
    if shown == MEMORY:
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        assert url.database is not None
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        # What models wrote is in it: a new file is for its owner's eyes only (SQLite gives the
        # files beside it the same mode).
        Path(url.database).touch(mode=0o600)
        engine = create_engine(url, connect_args={"timeout": 10}, hide_parameters=True)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _configure_sqlite(connection: Any, record: object) -> None:
    """Readers beside a writer (WAL), and a commit that is on the disk when it returns (FULL)."""
    connection.isolation_level = None  # the driver would begin transactions by its own rules
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a reader that turns writer later could only fail."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection, shown: str) -> None:
    """Bring the schema up to date, whatever earlier version it is of."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = ScriptDirectory.from_config(config)
    options = {"version_table": schema.VERSION_TABLE}
    found = MigrationContext.configure(connection, opts=options).get_current_revision()
    if found == known.get_current_head():
        return
    if found is not None and found not in {step.revision for step in known.walk_revisions()}:
        raise BadInput(
            f"store.url: {shown} was made by a newer version of atts (its schema is {found}, the "
            f"newest known here {known.get_current_head()}); update atts, or name another database",
            field="store.url",
        )
    command.upgrade(config, "head")


def _reason(error: BaseException) -> str:
    """A driver's complaint in one line."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _advice(url: URL, error: BaseException) -> str:
    if isinstance(error, ImportError):
        return "install the driver with `pip install 'atts[postgres]'`"
    if url.get_backend_name() == "postgresql":
        return (
            "check that the server runs, that the database exists and that user and password "
            "(PGPASSWORD, ~/.pgpass) are right"
        )
    return "name a file in a folder that can be written to"
