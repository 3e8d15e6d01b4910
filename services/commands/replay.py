"""`atts replay`: decide a recorded run again, without models, and see whether the rate held."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from atts_core.calibration.published import conformities, read_perplexities
from atts_core.calibration.settings import CalibrationSettings, CoverageName
from atts_core.calibration.traces import read_trace
from atts_core.errors import BadInput
from atts_core.replay import WINDOW, Order, arrival, report
from atts_core.replay import replay as decide_again
from atts_core.settings import validated
from services.commands.telling import tell


def replay(
    trace: Annotated[Path, typer.Argument(help="a recorded run, .jsonl or .jsonl.gz")],
    calibration: Annotated[
        Path | None,
        typer.Option(help="perplexities of first segments (.npy) that came before the run"),
    ] = None,
    takeover_rate: Annotated[
        float, typer.Option(help="expected share of segments taken over, between 0 and 1")
    ] = 0.4,
    coverage: Annotated[
        CoverageName, typer.Option(help="which scores a segment is ranked among")
    ] = "adaptive",
    feedback: Annotated[
        float, typer.Option(min=0, help="times the default feedback steps; 0: pure conformal")
    ] = 1.0,
    order: Annotated[
        Order, typer.Option(help="one question after the other, or all at once")
    ] = "question",
    seed: Annotated[int, typer.Option(min=0, help="decides arrival within a turn, and coins")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="draw realised against nominal rates into this .png")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="the report as JSON, nothing else")] = False,
) -> None:
    """Decide a recorded run again through the gate that serves; report rates and selectivity."""
    if not 0 < takeover_rate < 1:
        raise BadInput(
            f"--takeover-rate: found {takeover_rate}; it must be between 0 and 1",
            field="takeover_rate",
        )
    if coverage == "published" and calibration is None:
        raise BadInput(
            "--coverage published ranks among a calibration made once: name it with "
            "--calibration FILE.npy",
            field="calibration",
        )
    settings = scaled(CalibrationSettings(coverage=coverage), feedback)
    if plot is not None:
        _require_plotting(plot)
    began = perf_counter()
    recorded = read_trace(trace)
    before = [] if calibration is None else conformities(read_perplexities(calibration))
    steps = arrival(recorded, order, seed)
    if not steps:
        raise BadInput(f"{trace}: no segment has a perplexity")
    taken, seconds = decide_again(
        steps, rate=takeover_rate, settings=settings, calibration=before, seed=seed
    )
    segments = sum(len(chain.turns) for chain in recorded.candidates)
    found: dict[str, Any] = {
        "trace": str(trace),
        "cut": recorded.cut,
        "unscored": segments - len(steps),
        "calibration": None if calibration is None else str(calibration),
        "coverage": coverage,
        "takeover_rate": takeover_rate,
        "feedback": feedback,
        "order": order,
        "seed": seed,
        **report(steps, taken, takeover_rate),
        "seconds": perf_counter() - began,
        "decisions_per_second": len(steps) / seconds,
    }
    if plot is not None:
        draw(found, plot)
    tell(found, as_table, json_)


def scaled(settings: CalibrationSettings, feedback: float) -> CalibrationSettings:
    """The settings with every feedback step times `feedback`."""
    steps = {
        name: getattr(settings, name) * feedback
        for name in ("overall_step", "turn_step", "question_step")
    }
    return validated(CalibrationSettings, {**settings.model_dump(), **steps})


def as_table(found: dict[str, Any]) -> str:
    """The report for a person."""
    rate = found["takeover_rate"]
    overall = f"{found['overall']:.3f}"
    lines = [
        f"{found['decisions']} decisions, coverage {found['coverage']}, "
        f"nominal takeover rate {rate}, order {found['order']}, seed {found['seed']}",
        "",
        f"  overall rate                      {overall:>6}",
        f"  first 100 decisions               {_shown(found['first_100'])}",
        f"  largest deviation of a turn       {_shown(found['turn_max_abs_deviation'])}",
        f"  largest deviation of a question   {_shown(found['question_max_abs_deviation'])}",
        f"  largest deviation of a window     {_shown(found['window_max_abs_deviation'])}",
        f"    any {WINDOW} decisions in a row      "
        f"{_shown(found['sliding_window_max_abs_deviation'])}",
        f"  overlap with a barrier's choice   {_shown(found['overlap'])}",
        f"  AUROC within question and turn    {_shown(found['auroc'])}",
        f"  target's share of characters      {_shown(found['target_character_share'])}",
        "",
        "  turn      n   rate",
        *(f"  {row['turn']:4} {row['n']:6}  {row['rate']:.3f}" for row in found["by_turn"]),
        "",
        f"  {found['seconds']:.2f} s in all; {found['decisions_per_second']:,.0f} decisions a "
        "second in the gate",
    ]
    if found["unscored"]:
        lines.append(f"  {found['unscored']} segments have no perplexity and were left out")
    if found["cut"]:
        lines.append("  the file is cut: what followed its last whole record was left out")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "     –" if value is None else f"{value:6.3f}"


def _require_plotting(path: Path) -> None:
    """Refuse before the work what could not be drawn after it."""
    if find_spec("matplotlib") is None:
        raise BadInput("--plot needs matplotlib: pip install 'atts[plots]'", field="plot")
    if path.suffix != ".png":
        raise BadInput(f"--plot: found {path}; a name that ends in .png is needed", field="plot")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"--plot: {path.parent} cannot be written to", field="plot")


def draw(found: dict[str, Any], path: Path) -> None:
    """Realised rates by turn, question and window against the nominal one."""
    from matplotlib.figure import Figure

    rate = found["takeover_rate"]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    turn, question, window = figure.subplots(1, 3, sharey=True)
    turn.bar([r["turn"] for r in found["by_turn"]], [r["rate"] for r in found["by_turn"]])
    turn.set(xlabel="turn", ylabel="takeover rate", ylim=(0, 1))
    turn.xaxis.get_major_locator().set_params(integer=True)
    sizes = [math.sqrt(r["n"]) * 3 for r in found["by_question"]]
    question.scatter(
        range(len(sizes)), [r["rate"] for r in found["by_question"]], s=sizes, alpha=0.6
    )
    question.set(xlabel="question, in order of arrival (larger: more segments)")
    window.plot(
        [r["from"] for r in found["by_window"]], [r["rate"] for r in found["by_window"]], marker="."
    )
    window.set(xlabel=f"decisions, in windows of {WINDOW}")
    for axes in (turn, question, window):
        axes.axhline(rate, color="black", linewidth=1, linestyle="--")
    figure.suptitle(
        f"{found['coverage']}, nominal {rate}: overall {found['overall']:.3f}, "
        f"overlap {_shown(found['overlap']).strip()}, AUROC {_shown(found['auroc']).strip()}"
    )
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a whole picture or none."""
    partial = path.with_name(f".{path.name}.part")
    figure.savefig(partial, dpi=120, format="png")
    partial.replace(path)
