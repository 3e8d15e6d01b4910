"""What is done with scores, each act inside one transaction of the caller's.

Whoever adds scores of a pair first locks the pair's row. So positions are committed in their order,
also by two stores on one database, and a reader that has seen a position has seen all before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, select, update

from atts_core.calibration.keys import PairKey, Record
from services.store.dialect import insert_into
from services.store.schema import origins, pairs, scores

FORGOTTEN_AFTER = 30 * 24 * 3600
"""Seconds without a word from an origin after which its place in the sequence is forgotten."""


@dataclass(frozen=True, slots=True)
class Place:
    """A pair's row: how many of its scores arrived in all, how often it was reset."""

    id: int
    arrived: int
    generation: int


def find(connection: Connection, pair: PairKey) -> Place | None:
    """The pair's row, or None where nothing of the pair was ever stored."""
    row = connection.execute(
        select(pairs.c.id, pairs.c.arrived, pairs.c.generation).where(_is(pair))
    ).first()
    return None if row is None else Place(*row)


def lock(connection: Connection, pair: PairKey) -> Place:
    """The pair's row, made where it is missing, held until the transaction ends."""
    touch = (
        update(pairs)
        .where(_is(pair))
        .values(arrived=pairs.c.arrived)
        .returning(pairs.c.id, pairs.c.arrived, pairs.c.generation)
    )
    row = connection.execute(touch).first()
    if row is None:
        key = {"draft": pair.draft, "target": pair.target}
        key |= {"template": pair.template, "score": pair.score}
        connection.execute(
            insert_into(connection, pairs).values(arrived=0, **key).on_conflict_do_nothing()
        )
        row = connection.execute(touch).one()
    return Place(*row)


def committed(connection: Connection, pair_id: int, origin: str) -> int:
    """Up to which sequence the origin's scores are in; 0 for an unknown one."""
    found = connection.execute(
        select(origins.c.committed).where(origins.c.pair_id == pair_id, origins.c.origin == origin)
    ).scalar()
    return found or 0


def commit(connection: Connection, pair_id: int, origin: str, sequence: int) -> None:
    """From now on the origin's scores up to `sequence` are in."""
    row = {"committed": sequence, "heard": int(time.time())}
    statement = insert_into(connection, origins).values(pair_id=pair_id, origin=origin, **row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["pair_id", "origin"], set_=row)
    )


def append(connection: Connection, place: Place, records: Sequence[Record]) -> int:
    """Add records that are not there yet to a locked pair; the place of the last one."""
    if records:
        rows = [
            {
                "pair_id": place.id,
                "position": position,
                "origin": record.origin,
                "sequence": record.sequence,
                "turn": record.turn,
                "conformity": record.conformity,
            }
            for position, record in enumerate(records, start=place.arrived + 1)
        ]
        connection.execute(insert(scores), rows)
        connection.execute(
            update(pairs).where(pairs.c.id == place.id).values(arrived=place.arrived + len(records))
        )
    return place.arrived + len(records)


def between(
    connection: Connection, pair_id: int, after: int, until: int, *, but: str, limit: int
) -> list[tuple[int, Record]]:
    """The first `limit` records in (after, until] that `but` did not make, with their places."""
    rows = connection.execute(
        select(scores.c.position, *_RECORD)
        .where(
            scores.c.pair_id == pair_id,
            scores.c.position > after,
            scores.c.position <= until,
            scores.c.origin != but,
        )
        .order_by(scores.c.position)
        .limit(limit)
    )
    return [(position, Record(*record)) for position, *record in rows]


def everything(connection: Connection, pair_id: int) -> Iterator[Record]:
    """All records of a pair that are kept, in the order of their arrival."""
    kept = select(*_RECORD).where(scores.c.pair_id == pair_id).order_by(scores.c.position)
    rows = connection.execute(kept.execution_options(yield_per=1_000))
    return (Record(*row) for row in rows)


def missing(connection: Connection, pair_id: int, records: Iterable[Record]) -> list[Record]:
    """Those of `records` that are not there, whatever is committed."""
    there = {
        tuple(row)
        for row in connection.execute(
            select(scores.c.origin, scores.c.sequence).where(scores.c.pair_id == pair_id)
        )
    }
    return [record for record in records if (record.origin, record.sequence) not in there]


def prune(connection: Connection, pair: PairKey, keep: int) -> int:
    """Remove all but the newest `keep` scores of a pair; how many went.

    With them go origins that are long silent and have no score left: a router that comes back
    after that with what it had uploaded before would be believed.
    """
    place = find(connection, pair)
    if place is None:
        return 0
    gone = connection.execute(
        delete(scores).where(
            scores.c.pair_id == place.id, scores.c.position <= place.arrived - keep
        )
    ).rowcount
    left = exists().where(
        scores.c.pair_id == origins.c.pair_id, scores.c.origin == origins.c.origin
    )
    connection.execute(
        delete(origins).where(
            origins.c.pair_id == place.id,
            origins.c.heard < int(time.time()) - FORGOTTEN_AFTER,
            ~left,
        )
    )
    return gone


def reset(connection: Connection, pair: PairKey) -> int:
    """Remove a pair's scores, and have its routers forget theirs; how many went."""
    place = lock(connection, pair)
    gone = connection.execute(delete(scores).where(scores.c.pair_id == place.id)).rowcount
    connection.execute(
        update(pairs).where(pairs.c.id == place.id).values(generation=place.generation + 1)
    )
    return gone


def all_pairs(connection: Connection) -> list[PairKey]:
    """Every pair that ever had scores here, the oldest first."""
    rows = connection.execute(
        select(pairs.c.draft, pairs.c.target, pairs.c.template, pairs.c.score).order_by(pairs.c.id)
    )
    return [PairKey(*row) for row in rows]


def kept(connection: Connection, pair_id: int) -> int:
    """How many scores of a pair are here."""
    return connection.execute(
        select(func.count()).select_from(scores).where(scores.c.pair_id == pair_id)
    ).scalar_one()


def heard(connection: Connection, pair_id: int) -> tuple[int, int | None]:
    """How many routers a pair has had, and when (seconds since 1970) one last brought scores."""
    row = connection.execute(
        select(func.count(), func.max(origins.c.heard)).where(origins.c.pair_id == pair_id)
    ).one()
    return row[0], row[1]


_RECORD = (scores.c.origin, scores.c.sequence, scores.c.turn, scores.c.conformity)


def _is(pair: PairKey) -> Any:
    return and_(
        pairs.c.draft == pair.draft,
        pairs.c.target == pair.target,
        pairs.c.template == pair.template,
        pairs.c.score == pair.score,
    )
