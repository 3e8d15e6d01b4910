"""What Alembic runs: the steps that are missing, inside the transaction it is given."""

from __future__ import annotations

from alembic import context

from services.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
