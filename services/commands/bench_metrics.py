"""`atts bench metrics`: what metrics cost."""

from __future__ import annotations

from typing import Annotated

import typer

from services.commands.options import AsJson, AtOnce, Seed
from services.commands.telling import tell


def bench_metrics(
    pairs: Annotated[int, typer.Option(min=2, help="pairs of turns, on and off")] = 10,
    problems: Annotated[int, typer.Option(min=1, help="held-out problems a turn")] = 20,
    at_once: AtOnce = 4,
    seed: Seed = 1,
    json_: AsJson = False,
) -> None:
    """Time of the same questions with metrics on against off, in turns within one run."""
    from benchmarks.metrics import as_table, run

    result = run(pairs=pairs, problems=problems, at_once=at_once, seed=seed)
    tell(result, as_table, json_)
