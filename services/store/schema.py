"""The tables. A change here needs a step in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION_TABLE = "atts_schema_version"

metadata = MetaData()

database = Table("atts_database", metadata, Column("id", String(32), primary_key=True))
"""One row: which database this is. Positions in one mean nothing in another."""

pairs = Table(
    "atts_pairs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("draft", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("score", Text, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),
    UniqueConstraint("draft", "target", "template", "score", name="atts_pairs_key"),
)
"""`arrived` counts the pair's scores of all time, `generation` its resets."""

origins = Table(
    "atts_origins",
    metadata,
    Column("pair_id", Integer, ForeignKey("atts_pairs.id"), primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("committed", BigInteger, nullable=False),
    Column("heard", BigInteger, nullable=False),
)
"""Up to which sequence an origin's scores are in, also after they were pruned; `heard` is when
(seconds since 1970)."""

scores = Table(
    "atts_scores",
    metadata,
    Column("pair_id", Integer, ForeignKey("atts_pairs.id"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("conformity", Double, nullable=False),
    UniqueConstraint("pair_id", "origin", "sequence", name="atts_scores_once"),
)
"""`position` is the score's place in the pair's order of arrival, from 1, without gaps: whoever
has all up to a position needs only what is beyond it."""
