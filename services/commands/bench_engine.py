"""`atts bench engine`: an engine beside the plain loop and `model.generate`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from services import serve_config
from services.commands.options import AsJson
from services.engines.settings import TransformersSettings, VllmSettings


class Engine(StrEnum):
    """The engines that run inside the replica."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


def bench_engine(
    engine: Annotated[
        Engine, typer.Option(help="which engine; vllm needs the extra of that name")
    ] = Engine.TRANSFORMERS,
    json_: AsJson = False,
) -> None:
    """Tokens a second at 1, 16 and 64 requests, and the cost of a score by history, as ratios."""
    from benchmarks import engine as benchmark

    settings = serve_config.load(serve_config.LOCAL).settings
    models = {
        role: _settings(engine, model.model)
        for role, model in (("draft", settings.draft), ("target", settings.target))
    }
    # vLLM's counters move when a request ends: longer windows even that out.
    report = benchmark.run(models, seconds=4.0 if engine is Engine.VLLM else 1.5)
    if json_:
        print(benchmark.as_json(report))
    else:
        benchmark.show(report, Console())


def _settings(engine: Engine, model: str) -> TransformersSettings | VllmSettings:
    """The embedded pair is for a CPU: in float32, one thread, little memory."""
    if engine is Engine.TRANSFORMERS:
        return TransformersSettings(model=model, threads=1)
    return VllmSettings(
        engine="vllm", model=model, dtype="float32", kv_gib=1.0, block_size=32, eager=True
    )
