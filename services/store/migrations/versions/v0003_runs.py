"""Runs by their id: how they stand, their events in batches, who follows them from elsewhere."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "atts_runs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("router", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("heard", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("reply", sa.Text),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("owner", "idempotency_key", name="atts_runs_once"),
    )
    op.create_index("atts_runs_by_age", "atts_runs", ["created"])
    op.create_table(
        "atts_run_events",
        sa.Column("run_id", sa.String(64), sa.ForeignKey("atts_runs.id"), primary_key=True),
        sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "atts_run_followers",
        sa.Column("run_id", sa.String(64), sa.ForeignKey("atts_runs.id"), primary_key=True),
        sa.Column("router", sa.String(64), primary_key=True),
        sa.Column("heard", sa.Double, nullable=False),
    )
