"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Problems = Annotated[int, typer.Option(min=1, help="held-out problems of 8 to 12 steps")]
Seed = Annotated[int, typer.Option(min=0, help="decides problems, sampling and coins")]
AtOnce = Annotated[int, typer.Option(min=1, help="questions in flight at the same time")]
Server = Annotated[
    str | None, typer.Option(envvar="ATTS_SERVER", help="a running server; default: start one")
]
AsJson = Annotated[bool, typer.Option("--json", help="the numbers as JSON, nothing else")]
