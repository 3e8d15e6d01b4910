"""`atts bench stream`: what a reader of a stream waits for, idle and under load."""

from __future__ import annotations

from typing import Annotated

import typer

from services.commands.options import AsJson, Server
from services.commands.telling import tell


def bench_stream(
    questions: Annotated[int, typer.Option(min=2, help="held-out problems, each streamed")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="decides problems, arrivals and coins")] = 1,
    server: Server = None,
    json_: AsJson = False,
) -> None:
    """First byte, gaps between chunks, and how late a chunk is: idle and at 80 % load."""
    from benchmarks.stream import as_table, run

    result = run(questions=questions, seed=seed, server=server)
    tell(result, as_table, json_)
