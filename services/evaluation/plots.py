"""Five pictures of an evaluation, drawn by matplotlib into PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from services.commands.replay import save
from services.evaluation.results import Row

COLOURS = {
    "draft": "tab:cyan",
    "peek": "paleturquoise",
    "score": "tab:olive",
    "judge": "tab:olive",
    "takeover": "tab:purple",
    "target": "tab:purple",
}
"""Of a request's purpose, in the timelines."""
Figures = Mapping[str, Any]


def available() -> bool:
    return find_spec("matplotlib") is not None


def draw(
    policies: Mapping[str, Figures], rows: Sequence[Row], nominal: float | None, folder: Path
) -> list[Path]:
    """All five into `folder`; `nominal` is the takeover rate where all policies share one."""
    asked = {label: found for label, found in policies.items() if found.get("questions")}
    pictures: dict[str, Callable[[Any], None]] = {
        "accuracy-by-target-tokens": lambda axes: _accuracy(
            axes, asked, "target_tokens", "target tokens a question"
        ),
        "accuracy-by-latency": lambda axes: _accuracy(
            axes, asked, "latency_p50", "median seconds a question"
        ),
        "latency": lambda axes: _latency(axes, list(asked), rows),
        "takeover-rate-by-turn": lambda axes: _turns(axes, asked, nominal),
    }
    drawn = [_single(folder / f"{name}.png", picture) for name, picture in pictures.items()]
    return [*drawn, _timelines(folder / "timelines.png", list(asked), rows)]


def _single(path: Path, picture: Callable[[Any], None]) -> Path:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    # Ten strong colours, then the same pale: no two of twenty policies look alike.
    both = colormaps["tab20"](range(20))
    axes.set_prop_cycle(color=[*both[::2], *both[1::2]])
    picture(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    save(figure, path)
    return path


def _accuracy(axes: Any, policies: Mapping[str, Figures], over: str, name: str) -> None:
    for label, found in policies.items():
        x, y = found[over], found["majority"]
        if x is None or y is None or not found["answered"]:
            continue
        if over == "target_tokens":
            x /= found["answered"]
        low, high = found["majority_interval"]
        error = [[max(0.0, y - low)], [max(0.0, high - y)]]
        axes.errorbar(x, y, yerr=error, fmt="o", capsize=3, label=label)
    axes.set(xlabel=name, ylabel="majority right (95 % interval)")


def _latency(axes: Any, labels: Sequence[str], rows: Sequence[Row]) -> None:
    for label in labels:
        mine = [r["latency"] for r in rows if r["policy"] == label and r["error"] is None]
        if mine:
            axes.ecdf(mine, label=label)
    axes.set(xlabel="seconds a question", ylabel="share of questions answered")


def _turns(axes: Any, policies: Mapping[str, Figures], nominal: float | None) -> None:
    for label, found in policies.items():
        turns = found["takeover_rate_by_turn"]
        if turns:
            axes.plot(
                [t["turn"] for t in turns], [t["rate"] for t in turns], marker=".", label=label
            )
    if nominal is not None:
        axes.axhline(nominal, color="black", linewidth=1, linestyle="--")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="turn", ylabel="realised takeover rate", ylim=(0, 1))


def _timelines(path: Path, labels: Sequence[str], rows: Sequence[Row]) -> Path:
    """The candidates of one question, under each policy: when they were in which request."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = {
        row["policy"]: row
        for row in sorted(rows, key=lambda row: -row["seed"])
        if any("timeline" in chain for chain in row["chains"])
    }
    known = [label for label in labels if label in shown] or [""]
    figure = Figure(figsize=(8, 0.6 + 1.5 * len(known)), layout="constrained")
    panels = figure.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
    for axes, label in zip(panels, known, strict=True):
        for chain in shown[label]["chains"] if label else []:
            for begin, end, stage in chain["timeline"]:
                axes.barh(
                    chain["candidate"], end - begin, left=begin, color=COLOURS[stage], height=0.7
                )
        axes.invert_yaxis()
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel(label, rotation=0, ha="right", fontsize="small")
    panels[-1].set_xlabel("seconds since the question was asked")
    legend = [Patch(color=COLOURS[stage], label=stage) for stage in ("draft", "score", "target")]
    figure.legend(
        handles=legend,
        loc="outside upper center",
        ncols=len(legend),
        fontsize="small",
    )
    save(figure, path)
    return path
