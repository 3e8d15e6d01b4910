"""How fast an engine inside the replica is, against the plainest loop over the same model.

Writing: N clients each ask for random lengths behind random prompts, one request after the other,
so that requests come and go at random times while about N run. Beside it, in every round, the same
model writes the same mean lengths for N equal rows: by the plain loop below, which has nothing to
schedule, and by `model.generate`. Reported are ratios of tokens per second.

Rating: a segment of 32 tokens after histories of several lengths, known to the prefix cache or not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from atts_core.engine import Generate, Rate, Sampling, start
from atts_core.types import EngineCost, History, Ids, Segment, as_ids
from services.engines import loading
from services.engines.loading import ServedEngine
from services.engines.settings import TransformersSettings, VllmSettings

SAMPLING = Sampling(temperature=0.8)
PROMPT, WRITTEN, SEGMENT = 64, 128, 32
"""Mean tokens of a prompt and of what is written behind it; tokens of a rated segment."""
LENGTHS = (0.5, 1.5)
"""Between which shares of the mean the lengths of single requests lie, evenly."""
BATCHES = (1, 16, 64)
HISTORIES = (0, 500, 1500)


class Measured(ServedEngine, Protocol):
    """An engine that can be waited for; its status counts what it wrote as `written_tokens`."""

    async def idle(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine, the same model as it comes, and random ids they can read."""

    engine: Measured
    plain: Any
    random: np.random.Generator

    def ids(self, count: int | np.integer[Any]) -> Ids:
        return self.random.integers(0, self.plain.config.vocab_size, count, dtype=np.int32)

    def rows(self, count: int) -> torch.Tensor:
        ids = self.random.integers(0, self.plain.config.vocab_size, (count, PROMPT))
        return torch.from_numpy(ids).to(self.plain.device)


# ------------------------------------------------------------------------- the yardsticks


@torch.inference_mode()
def plain_loop(model: Any, ids: torch.Tensor, count: int) -> None:
    """Write `count` tokens in every row of `ids`: nothing but the forward pass and the draw."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    for _ in range(count):
        logits = model(ids, past_key_values=cache).logits[:, -1]
        ids = torch.multinomial(torch.softmax(logits / SAMPLING.temperature, -1), 1)


@torch.inference_mode()
def generate(model: Any, ids: torch.Tensor, count: int) -> None:
    """The same by transformers' own generation."""
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=SAMPLING.temperature,
        top_k=0,
        min_new_tokens=count,
        max_new_tokens=count,
        pad_token_id=0,
    )


def _speed(write: Callable[[Any, torch.Tensor, int], None], subject: Subject, rows: int) -> float:
    """Tokens a second of `write`, prompts included in the time."""
    ids = subject.rows(rows)
    begun = perf_counter()
    write(subject.plain, ids, WRITTEN)
    return rows * WRITTEN / (perf_counter() - begun)


# ------------------------------------------------------------------------- the engine


async def _engine_speed(subject: Subject, clients: int, seconds: float) -> float:
    """Tokens a second of `clients` random requests at a time, over `seconds` of steady state."""
    engine, apart = subject.engine, [asyncio.Event() for _ in range(clients)]
    running = [asyncio.create_task(_client(subject, i, apart[i])) for i in range(clients)]
    try:
        # Their first requests have begun together, and end at random times.
        await asyncio.gather(*(one.wait() for one in apart))
        first, begun = engine.status()["written_tokens"], perf_counter()
        await asyncio.sleep(seconds)
        return float((engine.status()["written_tokens"] - first) / (perf_counter() - begun))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await engine.idle()


async def _client(subject: Subject, name: int, apart: asyncio.Event) -> None:
    """Ask again and again; `apart` is set when the first request has ended."""
    while True:
        read, written = (int(mean * subject.random.uniform(*LENGTHS)) for mean in (PROMPT, WRITTEN))
        await subject.engine.generate(
            Generate(str(name), History(subject.ids(read)), written, SAMPLING, seed=written)
        )
        apart.set()


async def _rating_seconds(subject: Subject, length: int, *, cached: bool, times: int) -> float:
    """Median seconds to rate a segment behind a history of `length` tokens, and one to begin."""
    history, taken = subject.ids(1 + length), []
    for repeat in range(times + 1):
        if not cached:
            history = subject.ids(1 + length)
        segment = start(_given(subject.engine, subject.ids(SEGMENT)))
        begun = perf_counter()
        await subject.engine.score(Rate("bench", History(history)), segment)
        if repeat:  # the first one fills the cache
            taken.append(perf_counter() - begun)
    return median(taken)


async def _given(engine: ServedEngine, ids: Ids) -> Segment:
    return Segment("", ids, "length", engine.capabilities.vocabulary, as_ids([]), EngineCost())


# ------------------------------------------------------------------------- the report


def run(
    models: Mapping[str, TransformersSettings | VllmSettings],
    *,
    rounds: int = 5,
    seconds: float = 1.5,
    threads: int = 1,
) -> dict[str, Any]:
    """Measure each model, by its role, in the engine that its settings name.

    `generate` and `score` hold the worst of the models' medians; `models` each model's own, with
    tokens per second and the least and largest of all rounds. `threads` are torch's in this
    process, where the loop and `model.generate` run.
    """
    torch.set_num_threads(threads)
    found = {
        role: asyncio.run(_measure(settings, rounds, seconds)) for role, settings in models.items()
    }
    return {
        "generate": {
            str(n): {
                key: min(model["generate"][str(n)][key]["median"] for model in found.values())
                for key in ("vs_loop", "vs_generate")
            }
            for n in BATCHES
        },
        "score": {
            "growth_0_to_500": max(
                model["score"]["growth_0_to_500"]["median"] for model in found.values()
            ),
            "cached_speedup_at_1500": min(
                model["score"]["cached_speedup_at_1500"]["median"] for model in found.values()
            ),
        },
        "models": found,
        "setting": {
            "engines": sorted({settings.engine for settings in models.values()}),
            "rounds": rounds,
            "seconds": seconds,
            "threads": threads,
        },
    }


async def _measure(
    settings: TransformersSettings | VllmSettings, rounds: int, seconds: float
) -> dict[str, Any]:
    with _endless(settings.model) as model:
        engine: Any = loading.load(settings.model_copy(update={"model": model}))
        try:
            plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
            if isinstance(settings, TransformersSettings) and settings.device != "cpu":
                plain.to("cuda" if torch.cuda.is_available() else "cpu")
            subject = Subject(engine, plain.eval(), np.random.default_rng(7))
            return {
                "generate": {
                    str(n): await _generating(subject, n, rounds, seconds) for n in BATCHES
                },
                "score": await _rating(subject, rounds),
            }
        finally:
            engine.close()


@contextmanager
def _endless(model: str) -> Iterator[str]:
    """The folder `model` without an end of text: lengths are then those that are asked for."""
    with TemporaryDirectory() as folder:
        for file in Path(model).resolve().iterdir():
            copy = Path(folder, file.name)
            if file.suffix != ".json" or file.name == "tokenizer.json":
                copy.symlink_to(file)
                continue
            known = json.loads(file.read_text())
            ends = ("eos_token", "eos_token_id")
            copy.write_text(json.dumps({k: v for k, v in known.items() if k not in ends}))
        yield folder


async def _generating(
    subject: Subject, rows: int, rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    speeds: list[tuple[float, float, float]] = []
    for _ in range(rounds + 1):
        engine = await _engine_speed(subject, rows, seconds)
        speeds.append((engine, _speed(plain_loop, subject, rows), _speed(generate, subject, rows)))
    engine_speeds, loop_speeds, generate_speeds = zip(*speeds[1:], strict=True)  # one to warm up
    return {
        "vs_loop": _spread([e / p for e, p in zip(engine_speeds, loop_speeds, strict=True)]),
        "vs_generate": _spread(
            [e / g for e, g in zip(engine_speeds, generate_speeds, strict=True)]
        ),
        "engine": _spread(engine_speeds),
        "loop": _spread(loop_speeds),
        "generate": _spread(generate_speeds),
    }


async def _rating(subject: Subject, rounds: int) -> dict[str, dict[str, float]]:
    longest = subject.engine.capabilities.max_len - SEGMENT - 1
    found: dict[str, list[float]] = {f"seconds_at_{length}": [] for length in HISTORIES}
    found |= {"uncached_seconds_at_1500": [], "growth_0_to_500": [], "cached_speedup_at_1500": []}
    for _ in range(rounds):
        none, some, many = [
            await _rating_seconds(subject, min(length, longest), cached=True, times=15)
            for length in HISTORIES
        ]
        anew = await _rating_seconds(subject, min(HISTORIES[-1], longest), cached=False, times=3)
        for key, value in zip(
            found, (none, some, many, anew, some / none, anew / many), strict=True
        ):
            found[key].append(value)
    return {key: _spread(values) for key, values in found.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "largest": max(values)}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as two tables."""
    table = Table(title="Writing, tokens a second: median of the rounds (least … largest)")
    for column in (
        "model",
        "running",
        "engine",
        "plain loop",
        "generate",
        "vs loop",
        "vs generate",
    ):
        table.add_column(column, justify="right")
    for role, model in report["models"].items():
        for rows, found in model["generate"].items():
            table.add_row(
                role,
                rows,
                *(f"{found[key]['median']:,.0f}" for key in ("engine", "loop", "generate")),
                *(_shown(found[key]) for key in ("vs_loop", "vs_generate")),
            )
    console.print(table)
    table = Table(title=f"Rating {SEGMENT} tokens: milliseconds, median of the rounds")
    columns = [*HISTORIES, "1500, not cached", "growth 0 → 500", "speed-up at 1500"]
    for column in ("model", *map(str, columns)):
        table.add_column(column, justify="right")
    for role, model in report["models"].items():
        *seconds, growth, speedup = model["score"].values()
        times = [f"{1000 * one['median']:.2f}" for one in seconds]
        table.add_row(role, *times, _shown(growth), _shown(speedup))
    console.print(table)


def _shown(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['least']:.2f} … {found['largest']:.2f})"


def as_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2)
