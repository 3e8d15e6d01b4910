"""Where the databases differ in what they are told."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from atts_core.errors import BadInput


def insert_into(connection: Connection, table: Table) -> Any:
    """An insert that can say what to do on a conflict: each database has its own."""
    match connection.dialect.name:
        case "sqlite":
            return sqlite.insert(table)
        case "postgresql":
            return postgresql.insert(table)
        case name:
            raise BadInput(f"store.url: {name} is not supported", field="store.url")
