"""One exchange between a router and the store, as one transaction."""

from __future__ import annotations

from sqlalchemy import Connection

from atts_core.calibration.keys import Batch, Record
from services.store import scores
from services.store.exchange import Cursor, Exchange

LIMIT = 500
"""Records in one reply at most: a router takes them in between two requests."""


def exchange(
    connection: Connection,
    database_id: str,
    batch: Batch,
    origin: str,
    cursor: Cursor | None,
    keep: int,
) -> Exchange:
    """Take in what is new in `batch`, give what others made and `cursor` has not seen."""
    pair = batch.pair
    place = scores.lock(connection, pair) if batch.records else scores.find(connection, pair)
    if place is None:
        return Exchange(0, Batch(pair, ()), Cursor(database_id, 0, 0))
    known = cursor if cursor is not None and cursor.database == database_id else None
    forget = known is not None and known.generation < place.generation
    arrived, done = _take(connection, place, batch.records, origin, discard=forget)
    after = max(0 if known is None else known.position, arrived - keep)
    found = scores.between(connection, place.id, after, arrived, but=origin, limit=LIMIT)
    more = len(found) == LIMIT
    return Exchange(
        committed=done,
        batch=Batch(pair, tuple(record for _, record in found)),
        cursor=Cursor(database_id, place.generation, found[-1][0] if more else arrived),
        more=more,
        forget=forget,
    )


def _take(
    connection: Connection,
    place: scores.Place,
    records: tuple[Record, ...],
    origin: str,
    *,
    discard: bool,
) -> tuple[int, int]:
    """Store what was not stored before; (scores arrived, the origin's committed sequence).

    An upload whose acknowledgement was lost comes again: what is committed is left out. What a
    router made before it learned of a reset counts as committed but is discarded.
    """
    done = scores.committed(connection, place.id, origin)
    new = [record for record in records if record.sequence > done]
    if not new:
        return place.arrived, done
    arrived = place.arrived if discard else scores.append(connection, place, new)
    scores.commit(connection, place.id, origin, new[-1].sequence)
    return arrived, new[-1].sequence
