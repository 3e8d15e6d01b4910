"""`atts bench calibration`: how fast the gate is, and how its settings were chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from services.commands.options import AsJson


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
        print(json.dumps(result, indent=2) if json_ else calibration.as_table(result))
        return
    result = calibration.sweep(trace)
    if plot is not None:
        calibration.draw_sweep(result, plot)
    print(json.dumps(result, indent=2) if json_ else calibration.as_sweep_table(result))
