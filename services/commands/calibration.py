"""`atts calibration`: look into the store's database, empty it, and carry scores in and out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from atts_core.acceptance import QUANTILES
from atts_core.calibration.bank import Bank
from atts_core.calibration.keys import PairKey
from atts_core.errors import AttsError, BadInput
from services import serve_config
from services.client import authorization
from services.store import files, scores, transfer
from services.store.database import MEMORY, Database, open_database

app = typer.Typer(help="The scores that all routers share.", no_args_is_help=True)

Config = Annotated[Path, typer.Option(help="the Serve configuration whose store is meant")]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store-url", help="the store's database, instead of the configuration's"),
]
Pair = Annotated[
    str | None,
    typer.Option("--pair", help="draft>target>template>score, as `show` prints it"),
]
AsJson = Annotated[bool, typer.Option("--json", help="the result as JSON, nothing else")]


@app.command()
def show(
    config: Config = serve_config.LOCAL,
    store_url: StoreUrl = None,
    server: Annotated[
        str | None, typer.Option(help="ask a running server instead of its database")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Show every pair's scores; of a running server also its rates and alarms."""
    if server is not None:
        state = _asked(server.rstrip("/"))
        print(json.dumps(state, indent=2) if json_ else "\n".join(_server_lines(state)))
        return
    with _database(config, store_url) as (database, _), database.transaction() as connection:
        found = [_summary(connection, pair) for pair in scores.all_pairs(connection)]
    if json_:
        print(json.dumps({"database": database.shown, "pairs": found}, indent=2))
        return
    print(database.shown + ("" if found else ": no scores yet"))
    for pair in found:
        print("\n".join(_pair_lines(pair)))


@app.command()
def reset(
    config: Config = serve_config.LOCAL,
    store_url: StoreUrl = None,
    pair: Pair = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    json_: AsJson = False,
) -> None:
    """Remove a pair's scores; its running routers forget theirs at their next exchange."""
    wanted = _parsed(pair)
    with _database(config, store_url) as (database, _):
        with database.transaction() as connection:
            meant = transfer.chosen(connection, wanted)
        if not yes:
            question = f"Remove all scores of {meant} from {database.shown}?"
            typer.confirm(question, abort=True, err=True)
        with database.transaction() as connection:
            gone = scores.reset(connection, meant)
    _tell(json_, {"pair": str(meant), "removed": gone}, f"{gone:,} scores of {meant} removed")


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="where to write; one that is there is replaced")],
    config: Config = serve_config.LOCAL,
    store_url: StoreUrl = None,
    pair: Pair = None,
    json_: AsJson = False,
) -> None:
    """Write a pair's scores to a file, one JSON line a score."""
    wanted = _parsed(pair)
    with _database(config, store_url) as (database, _), database.transaction() as connection:
        meant = transfer.chosen(connection, wanted)
        exported = transfer.export(connection, database.id, meant)
    files.write_export(file, exported)
    count = len(exported.records)
    told = {"pair": str(meant), "scores": count, "file": str(file)}
    _tell(json_, told, f"{count:,} scores of {meant} written to {file}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="an export, or an .npy array of perplexities")],
    config: Config = serve_config.LOCAL,
    store_url: StoreUrl = None,
    pair: Pair = None,
    turn: Annotated[
        int, typer.Option(min=0, max=10_000, help="the turn that an .npy array's scores are of")
    ] = 0,
    json_: AsJson = False,
) -> None:
    """Add a file's scores to the store; running routers get them at their next exchange."""
    wanted = _parsed(pair)
    exported = files.read_scores(file, turn)
    with (
        _database(config, store_url, create=True) as (database, keep),
        database.transaction() as connection,
    ):
        meant, new = transfer.take_in(connection, database.id, exported, wanted, keep)
    count = len(exported.records)
    told = {"pair": str(meant), "scores": count, "new": new}
    _tell(json_, told, f"{new:,} of {count:,} scores were new for {meant}")


# ----------------------------------------------------------------------------- which database


@contextmanager
def _database(
    config: Path, url: str | None, *, create: bool = False
) -> Iterator[tuple[Database, int]]:
    """The database that is meant, and how many scores of a pair it may keep."""
    settings = serve_config.load(config).settings
    url = settings.store.url if url is None else url
    if url == MEMORY:
        raise BadInput(
            f"store.url: {MEMORY} ends with its store and cannot be opened from here; look into "
            "a running one with `atts calibration show --server URL`",
            field="store.url",
        )
    database = open_database(url, create=create)
    try:
        yield database, settings.store.windows * settings.calibration.window
    finally:
        database.close()


def _parsed(pair: str | None) -> PairKey | None:
    if pair is None:
        return None
    parts = pair.split(">")
    if len(parts) != 4 or not all(parts):
        raise BadInput(
            f"pair: found {pair!r}; four names are needed, draft>target>template>score, as "
            "`atts calibration show` prints them (in quotes: a shell takes > for itself)",
            field="pair",
        )
    return PairKey(*parts)


def _asked(server: str) -> dict[str, Any]:
    """A running server's own account."""
    try:
        response = httpx.get(f"{server}/v1/atts/calibration", headers=authorization(), timeout=10)
        state = response.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise AttsError(f"{server}: {type(error).__name__}: {error}") from None
    if not isinstance(state, dict):
        raise AttsError(f"{server}: this is no ATTS server")
    return state


# ---------------------------------------------------------------------------- what is printed


def _tell(as_json: bool, told: dict[str, Any], sentence: str) -> None:
    print(json.dumps(told) if as_json else sentence)


def _summary(connection: Any, pair: PairKey) -> dict[str, Any]:
    place = scores.find(connection, pair)
    assert place is not None, "it was listed in this transaction"
    everything = Bank(max(1, scores.kept(connection, place.id)))
    turns: dict[int, int] = {}
    for record in scores.everything(connection, place.id):
        everything.add(record.conformity)
        turns[record.turn] = turns.get(record.turn, 0) + 1
    sources, last = scores.heard(connection, place.id)
    return {
        "pair": str(pair),
        **asdict(pair),
        "scores": len(everything),
        "arrived": place.arrived,
        "resets": place.generation,
        "routers": sources,
        "last_upload": None if last is None else datetime.fromtimestamp(last, UTC).isoformat(),
        "turns": [{"turn": turn, "size": turns[turn]} for turn in sorted(turns)],
        "quantiles": {str(q): everything.quantile(q) for q in QUANTILES} if everything else {},
    }


def _pair_lines(pair: dict[str, Any]) -> Iterator[str]:
    yield pair["pair"]
    yield (
        f"  {pair['scores']:,} scores kept of {pair['arrived']:,} that arrived, from "
        f"{pair['routers']} routers; last upload {pair['last_upload'] or 'never'}; "
        f"resets: {pair['resets']}"
    )
    if pair["turns"]:
        yield "  by turn: " + ", ".join(f"{t['turn']}: {t['size']:,}" for t in pair["turns"])
        yield "  quantiles (nats a token): " + _quantiles(pair["quantiles"])


def _server_lines(state: dict[str, Any]) -> Iterator[str]:
    yield state["pair"]
    yield f"  coverage {state['coverage']}, {state['decisions']:,} decisions of this router"
    rates = state["rates"]
    for name, rate in (("overall", rates["overall"]), ("last 200", rates["window"])):
        if rate is not None and rate["n"]:
            yield f"  takeover rate {name}: {rate['rate']:.3f} of {rate['nominal']:.3f}"
    by_turn = ", ".join(f"{t['turn']}: {t['rate']:.2f}" for t in rates["by_turn"])
    if by_turn:
        yield f"  by turn: {by_turn}"
    for bank in state["banks"]:
        group = bank["bank"].removeprefix(state["pair"] + ">")
        yield f"  bank {group}: {bank['size']:,} scores  {_quantiles(bank['quantiles'])}".rstrip()
    drift = state["drift"]
    yield f"  drift: martingale {drift['martingale']:.2f} of {drift['limit']:.0f}"
    for alarm in state["alarms"]:
        yield f"  ALARM {alarm['time']}: {alarm['message']}"
    store = state["store"]
    age = store["snapshot_age_seconds"]
    told = "no exchange yet" if age is None else f"last exchange {age:.1f} s ago"
    trouble = "" if store["store_error"] is None else f"; {store['store_error']}"
    yield f"  store {store['url'] or '–'}: {told}, {store['pending']:,} scores to send{trouble}"


def _quantiles(quantiles: dict[str, float]) -> str:
    return ", ".join(f"{q}: {value:.3f}" for q, value in quantiles.items())
