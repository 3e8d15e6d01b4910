"""Scores by pair, origin and sequence."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    database = op.create_table(
        "atts_database",
        sa.Column("id", sa.String(32), primary_key=True),
    )
    op.bulk_insert(database, [{"id": uuid.uuid4().hex}])
    op.create_table(
        "atts_pairs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("draft", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("score", sa.Text, nullable=False),
        sa.Column("arrived", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("draft", "target", "template", "score", name="atts_pairs_key"),
    )
    op.create_table(
        "atts_origins",
        sa.Column("pair_id", sa.Integer, sa.ForeignKey("atts_pairs.id"), primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("committed", sa.BigInteger, nullable=False),
        sa.Column("heard", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "atts_scores",
        sa.Column("pair_id", sa.Integer, sa.ForeignKey("atts_pairs.id"), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("conformity", sa.Double, nullable=False),
        sa.UniqueConstraint("pair_id", "origin", "sequence", name="atts_scores_once"),
    )
