"""What is done with runs, each act inside one transaction of the caller's.

A run's rows are written by its router only, but for its key, its followers, and `cancel`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from atts_core.events import as_json
from services.runs.archive import Claim, Ending, Identity, Page, Upload
from services.store.dialect import insert_into
from services.store.schema import run_events, run_followers, runs
from services.wire import error_body

LOST_AFTER = 30.0
"""Seconds without a word from its router after which a run counts as lost with it."""
FOLLOWS_FOR = 10.0
"""Seconds for which a router that asked for a run counts as its follower."""


def take(connection: Connection, router: str, upload: Upload, now: float) -> tuple[int, bool]:
    """Keep what is new of a run; how many of its events are there, and whether its end is."""
    identity = upload.identity
    if upload.ending is not None and not upload.ending.kept:
        _remove(connection, [identity.id])
        return 0, True
    _begin(connection, router, identity, now, key=None)
    mine = runs.c.id == identity.id
    if not upload.events and upload.ending is None:
        # Its router lives; written now and then only, as a write costs a sync of the disk.
        stale = runs.c.heard < now - LOST_AFTER / 4
        connection.execute(update(runs).where(mine, stale).values(heard=now))
        return connection.execute(select(runs.c.events).where(mine)).scalar_one(), False
    # Also a lock: an upload that is repeated while the first is under way waits here.
    there, size = connection.execute(
        update(runs).where(mine).values(heard=now).returning(runs.c.events, runs.c.bytes)
    ).one()
    new = upload.events[there - upload.first :] if upload.first <= there else ()
    if new:
        body = json.dumps([as_json(event) for event in new])
        batch = {"run_id": identity.id, "first": there, "count": len(new), "body": body}
        connection.execute(insert(run_events), batch)
        there, size = there + len(new), size + len(body)
        _set(connection, identity.id, events=there, bytes=size)
    whole = upload.ending is not None and there >= upload.first + len(upload.events)
    if whole and upload.ending is not None:
        _end(connection, identity.id, upload.ending, size)
    return there, whole


def wanted(
    connection: Connection, run_ids: Collection[str], now: float
) -> tuple[frozenset[str], frozenset[str]]:
    """Which of the runs are to be cancelled, and which have followers at other routers."""
    cancelled = select(runs.c.id).where(runs.c.id.in_(run_ids), runs.c.cancel)
    followed = select(run_followers.c.run_id).where(
        run_followers.c.run_id.in_(run_ids), run_followers.c.heard > now - FOLLOWS_FOR
    )
    found = [frozenset(connection.execute(ids).scalars()) for ids in (cancelled, followed)]
    return found[0], found[1]


def claim(
    connection: Connection, router: str, identity: Identity, max_age: float, now: float
) -> Claim:
    """The run that the key stands for; the identity's own where no other holds the key."""
    holds = (runs.c.owner == identity.owner, runs.c.idempotency_key == identity.key)
    lost = and_(runs.c.status == "running", runs.c.heard < now - LOST_AFTER)
    gone = or_(lost, runs.c.created < now - max_age)
    connection.execute(update(runs).where(*holds, gone).values(idempotency_key=None))
    _begin(connection, router, identity, now, key=identity.key)
    row = connection.execute(select(runs.c.id, runs.c.fingerprint).where(*holds)).one()
    return Claim(*row)


def follow(connection: Connection, run_id: str, router: str, now: float) -> None:
    row = {"run_id": run_id, "router": router, "heard": now}
    statement = insert_into(connection, run_followers).values(row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["run_id", "router"], set_={"heard": now})
    )


def leave(connection: Connection, run_id: str, router: str) -> None:
    followers = run_followers.c
    connection.execute(
        delete(run_followers).where(followers.run_id == run_id, followers.router == router)
    )


def cancel(connection: Connection, run_id: str) -> None:
    _set(connection, run_id, cancel=True)


def read(
    connection: Connection, run_id: str, owner: str, after: int, limit: int, now: float
) -> Page | None:
    """At most `limit` of the owner's run's events after the first `after`, and how it stands."""
    row = connection.execute(
        select(runs).where(runs.c.id == run_id, runs.c.owner == owner)
    ).one_or_none()
    if row is None:
        return None
    events = _events(connection, run_id, after, limit)
    ending = _ending(row, now)
    reached = after + len(events)
    return Page(
        identity=Identity(row.id, row.owner, json.loads(row.question), row.created),
        status="running" if ending is None else ending.status,
        events=events,
        next=reached,
        more=reached < row.events,
        ending=ending,
    )


def prune(connection: Connection, max_runs: int, max_bytes: int, max_age: float, now: float) -> int:
    """Remove the oldest runs beyond these bounds; how many went. Those under way stay."""
    kept = connection.execute(
        select(runs.c.id, runs.c.created, runs.c.bytes, runs.c.status, runs.c.heard).order_by(
            runs.c.created.desc()
        )
    ).all()
    gone: list[str] = []
    size = 0
    for place, row in enumerate(kept, start=1):
        size += row.bytes
        under_way = row.status == "running" and row.heard >= now - LOST_AFTER
        beyond = place > max_runs or size > max_bytes or row.created < now - max_age
        if beyond and not under_way:
            gone.append(row.id)
    for begin in range(0, len(gone), 500):
        _remove(connection, gone[begin : begin + 500])
    return len(gone)


def _remove(connection: Connection, some: Sequence[str]) -> None:
    """All rows of these runs, which are few enough for one statement."""
    connection.execute(delete(run_events).where(run_events.c.run_id.in_(some)))
    connection.execute(delete(run_followers).where(run_followers.c.run_id.in_(some)))
    connection.execute(delete(runs).where(runs.c.id.in_(some)))


def _begin(
    connection: Connection, router: str, identity: Identity, now: float, *, key: str | None
) -> None:
    """The run's row, unless it is there, or another run holds its key."""
    statement = insert_into(connection, runs).values(
        id=identity.id,
        owner=identity.owner,
        router=router,
        status="running",
        question=json.dumps(identity.question),
        created=identity.created,
        heard=now,
        idempotency_key=key,
        fingerprint=identity.fingerprint,
        events=0,
        bytes=0,
        cancel=False,
    )
    connection.execute(statement.on_conflict_do_nothing())


def _end(connection: Connection, run_id: str, ending: Ending, size: int) -> None:
    reply = None if ending.reply is None else json.dumps(ending.reply)
    values: dict[str, Any] = {
        "status": ending.status,
        "ended": ending.ended,
        "reply": reply,
        "error": None if ending.error is None else json.dumps(ending.error),
        "bytes": size + len(reply or ""),
    }
    if ending.released:
        values["idempotency_key"] = None
    _set(connection, run_id, **values)


def _set(connection: Connection, run_id: str, **values: Any) -> None:
    connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def _events(connection: Connection, run_id: str, after: int, limit: int) -> list[dict[str, Any]]:
    if not limit:
        return []
    batches = (
        select(run_events.c.first, run_events.c.body)
        .where(run_events.c.run_id == run_id, run_events.c.first + run_events.c.count > after)
        .order_by(run_events.c.first)
        .execution_options(yield_per=20)
    )
    found: list[dict[str, Any]] = []
    with connection.execute(batches) as rows:
        for first, body in rows:
            some: Sequence[dict[str, Any]] = json.loads(body)
            found += some[max(0, after - first) :]
            if len(found) >= limit:
                break
    return found[:limit]


def _ending(row: Row[Any], now: float) -> Ending | None:
    if row.status == "running" and row.heard >= now - LOST_AFTER:
        return None
    if row.status == "running":
        message = f"the router that ran {row.id} was lost with it"
        lost = error_body(message, "server_error", code="run_lost")
        return Ending("failed", row.heard, error=(503, lost), released=True)
    error = None if row.error is None else json.loads(row.error)
    return Ending(
        row.status,
        row.ended,
        reply=None if row.reply is None else json.loads(row.reply),
        error=None if error is None else (error[0], error[1]),
    )
