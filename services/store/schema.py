"""The tables. A change here needs a step in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
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

runs = Table(
    "atts_runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("router", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("question", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("heard", Double, nullable=False),
    Column("ended", Double),
    Column("idempotency_key", Text),
    Column("fingerprint", String(64), nullable=False),
    Column("events", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("reply", Text),
    Column("error", Text),
    UniqueConstraint("owner", "idempotency_key", name="atts_runs_once"),
    Index("atts_runs_by_age", "created"),
)
"""`owner` stands for an API key, "" where none is needed. `created`, `heard` (the run's router's
last word) and `ended` are seconds since 1970; `question`, `reply` and `error` are JSON; `events`
and `bytes` count what is kept of the run. `cancel`: somebody asked for it."""

run_events = Table(
    "atts_run_events",
    metadata,
    Column("run_id", String(64), ForeignKey("atts_runs.id"), primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("body", Text, nullable=False),
)
"""A run's events in batches: `body` is a JSON array of `count` events, from the `first` on."""

run_followers = Table(
    "atts_run_followers",
    metadata,
    Column("run_id", String(64), ForeignKey("atts_runs.id"), primary_key=True),
    Column("router", String(64), primary_key=True),
    Column("heard", Double, nullable=False),
)
"""Routers whose clients wait for a run of another router, and when they last asked for it."""
