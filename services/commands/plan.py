"""`atts plan`: what the models of Serve configurations need of their GPUs, and whether they fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from atts_core.errors import BadInput
from services import capacity, serve_config
from services.capacity import GIB, GPU_GIB, Placement


def plan(
    configs: Annotated[
        list[Path], typer.Argument(help="Serve configurations, e.g. deployment/pairs/*.yaml")
    ],
    gpu: Annotated[
        list[str] | None, typer.Option(help="memory of a GPU type we do not know: NAME=GIB")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="as JSON, nothing else")] = False,
) -> None:
    """Work out the GPU memory of pairs; exit status 1 where one does not fit."""
    known = {**GPU_GIB, **dict(_memory(text) for text in gpu or [])}
    found = [
        (path, placement)
        for path in configs
        for placement in capacity.placements(serve_config.load(path), known)
    ]
    if json_:
        print(json.dumps([_record(path, placement) for path, placement in found], indent=2))
    else:
        print(table(found))
    if not all(placement.fits for _, placement in found):
        raise typer.Exit(1)


def table(found: list[tuple[Path, Placement]]) -> str:
    """Markdown, memory in GiB of each GPU, with a sentence for what does not fit."""
    head = [
        "configuration", "model", "GPUs", "weights", "runtime", "KV a token", "chains × tokens",
        "KV", "sum", "usable", "questions at once",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head), *(_row(path, placement) for path, placement in found)]
    misfits = [
        f"{path.stem}: {p.role} {p.model} does not fit {p.arithmetic()}; {capacity.advice(p)}"
        for path, p in found
        if not p.fits
    ]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), *misfits])


def _row(path: Path, placement: Placement) -> list[str]:
    p = placement
    total = p.weights + p.runtime + p.kv
    return [
        path.stem,
        f"{p.role}: {p.model}",
        f"{p.gpus} × {p.gpu}",
        f"{p.weights / GIB:.1f}",
        f"{p.runtime / GIB:.1f}",
        f"{p.kv_per_token / 1024:.0f} KiB",
        f"{p.candidates} × {p.context}",
        f"{p.kv / GIB:.1f}",
        f"{total / GIB:.1f}",
        f"{p.usable / GIB:.1f}",
        f"{p.questions:.1f}" if p.fits else "DOES NOT FIT",
    ]


def _record(path: Path, placement: Placement) -> dict[str, Any]:
    return {
        "config": str(path),
        **asdict(placement),
        "kv": placement.kv,
        "tokens": placement.tokens,
        "questions": placement.questions,
        "fits": placement.fits,
    }


def _memory(text: str) -> tuple[str, float]:
    name, _, size = text.partition("=")
    try:
        return name, float(size)
    except ValueError:
        raise BadInput(
            f"--gpu: found {text!r}; give a name and its memory in GiB, e.g. B200=178",
            field="gpu",
        ) from None
