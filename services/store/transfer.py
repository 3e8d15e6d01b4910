"""Scores out of a database and into it, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from atts_core.calibration.keys import PairKey, Record
from atts_core.errors import BadInput
from services.store import scores
from services.store.files import Exported


def chosen(connection: Connection, wanted: PairKey | None) -> PairKey:
    """The pair that is meant: the one named, or the only one there is."""
    there = scores.all_pairs(connection)
    if wanted is not None:
        if wanted not in there:
            raise BadInput(
                f"pair: found {str(wanted)!r}; {_listed(there)}",
                field="pair",
            )
        return wanted
    if len(there) != 1:
        raise BadInput(f"pair: not given; name one with --pair: {_listed(there)}", field="pair")
    return there[0]


def export(connection: Connection, database_id: str, pair: PairKey) -> Exported:
    """All scores of a pair that are kept."""
    place = scores.find(connection, pair)
    assert place is not None, "`chosen` found it in this transaction"
    records = list(scores.everything(connection, place.id))
    return Exported(pair, database_id, place.generation, records)


def take_in(
    connection: Connection,
    database_id: str,
    exported: Exported,
    wanted: PairKey | None,
    keep: int,
) -> tuple[PairKey, int]:
    """Add the scores that are not there yet; the pair and how many were new.

    Raises `BadInput` with both keys where the scores are another pair's than `wanted`, or than
    those in the database; an empty database takes the file's pair.
    """
    pair = _agreed(exported, wanted, scores.all_pairs(connection))
    place = scores.lock(connection, pair)
    same_life = (exported.database, exported.generation) == (database_id, place.generation)
    records = exported.records if same_life else _renamed(exported.records, place.generation)
    new = scores.missing(connection, place.id, records)
    scores.append(connection, place, new)
    scores.prune(connection, pair, keep)
    return pair, len(new)


def _agreed(exported: Exported, wanted: PairKey | None, there: Sequence[PairKey]) -> PairKey:
    made_by = exported.pair
    if made_by is None:
        if wanted is not None:
            return wanted
        if len(there) == 1:
            return there[0]
        raise BadInput(
            f"pair: an array says not whose it is; name it with --pair: {_listed(there)}",
            field="pair",
        )
    if wanted is not None and wanted != made_by:
        raise BadInput(
            f"the file's scores belong to {str(made_by)!r}, not to {str(wanted)!r}", field="pair"
        )
    if wanted is None and there and made_by not in there:
        raise BadInput(
            f"the file's scores belong to {str(made_by)!r}; {_listed(there)}; if this pair is to "
            "be served too, name it with --pair",
            field="pair",
        )
    return made_by


def _renamed(records: Sequence[Record], generation: int) -> list[Record]:
    """The records as those of another life: after a reset, routers have seen the old names and
    would take none of them again."""
    if generation == 0:
        return list(records)
    return [
        Record(f"{r.origin.partition('@')[0]}@{generation}", r.sequence, r.turn, r.conformity)
        for r in records
    ]


def _listed(pairs: Sequence[PairKey]) -> str:
    if not pairs:
        return "the database holds no pair yet"
    return "the database holds " + ", ".join(repr(str(pair)) for pair in pairs)
