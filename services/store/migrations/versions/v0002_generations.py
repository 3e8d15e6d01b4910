"""A reset is counted, so that running routers learn of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "atts_pairs",
        sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
    )
