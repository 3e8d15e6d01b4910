"""`atts bench calibration`: how fast the gate is, and how its settings were chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.commands.options import AsJson
from services.commands.telling import tell


def bench_calibration(
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="instead: rates and selectivity over the settings (minutes)"),
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="with --sweep: a recorded run beside the synthetic ones")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="with --sweep: draw it into this .png")] = None,
    json_: AsJson = False,
) -> None:
    """Microseconds of a p-value and an insert by bank size, memory, decisions a second."""
    from benchmarks import calibration

    if not sweep:
        result = calibration.run()
        tell(result, calibration.as_table, json_)
        return
    result = calibration.sweep(trace)
    if plot is not None:
        calibration.draw_sweep(result, plot)
    tell(result, calibration.as_sweep_table, json_)
