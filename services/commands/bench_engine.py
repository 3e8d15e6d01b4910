"""`atts bench engine`: the embedded engine beside the plain loop and `model.generate`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from services import serve_config


def bench_engine(
    json_: Annotated[
        bool, typer.Option("--json", help="the numbers as JSON, nothing else")
    ] = False,
) -> None:
    """Tokens a second at 1, 16 and 64 requests, and the cost of a score by history, as ratios."""
    from benchmarks import engine

    settings = serve_config.load(serve_config.LOCAL).settings
    report = engine.run(settings.draft.model, settings.target.model)
    if json_:
        print(engine.as_json(report))
    else:
        engine.show(report, Console())
