"""`atts bench …`: measurements with printed tables; each says what it ran on."""

from __future__ import annotations

from typing import Annotated

import typer

from services.commands.bench_calibration import bench_calibration
from services.commands.bench_engine import bench_engine
from services.commands.bench_metrics import bench_metrics
from services.commands.bench_stream import bench_stream
from services.commands.options import AsJson, AtOnce, Problems, Seed, Server
from services.commands.telling import tell

app = typer.Typer(
    help="Measure this machine: policies, engines, calibration, metrics, streams.",
    no_args_is_help=True,
)


app.command("calibration")(bench_calibration)
app.command("engine")(bench_engine)
app.command("metrics")(bench_metrics)
app.command("stream")(bench_stream)


@app.command("main")
def main(
    problems: Problems = 100,
    seed: Seed = 1,
    at_once: AtOnce = 4,
    coverage: Annotated[
        str | None, typer.Option(help="whom segments are ranked among; default: as configured")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="the takeover rate; default: as configured")
    ] = None,
    server: Server = None,
    json_: AsJson = False,
) -> None:
    """The embedded pair over HTTP: target-only, draft-only and atts side by side."""
    from benchmarks.main import as_table, run

    result = run(
        problems=problems,
        seed=seed,
        at_once=at_once,
        server=server,
        coverage=coverage,
        rate=rate,
    )
    tell(result, as_table, json_)


@app.command("stopping")
def stopping(
    problems: Problems = 100,
    seed: Seed = 1,
    at_once: AtOnce = 4,
    server: Server = None,
    json_: AsJson = False,
) -> None:
    """Tokens that stopping early saves, by consensus and by confidence, and what it costs."""
    from benchmarks.stopping import as_table, run

    result = run(problems=problems, seed=seed, at_once=at_once, server=server)
    tell(result, as_table, json_)


@app.command("load")
def load(
    clients: Annotated[int, typer.Option(min=1, help="clients at the same time")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="how long they ask")] = 120,
    leavers: Annotated[
        float, typer.Option(min=0, max=1, help="share of them that disconnects at random moments")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="decides questions and moments")] = 1,
    deadline: Annotated[
        float, typer.Option(min=0.001, help="seconds that each question has, once admitted")
    ] = 60,
    server: Server = None,
    json_: AsJson = False,
) -> None:
    """Many clients, half of which leave: answers, refusals, first bytes, and what is left over."""
    from benchmarks.load import as_table, run

    result = run(
        clients=clients,
        seconds=seconds,
        leavers=leavers,
        seed=seed,
        server=server,
        deadline=deadline,
    )
    tell(result, as_table, json_)
