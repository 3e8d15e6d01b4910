"""What a reader of a stream waits for: its first byte, and every chunk after the event it tells of.

Measured over HTTP with the shipped pair: alone, and while questions arrive at a share of what the
server can answer. Waits are on the reader's clock; the server's clock only gives how long after
the run's first event another one happened.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import platform
import random
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any

import httpx

from benchmarks.server import running_server
from models.arithmetic.problems import held_out
from services.client import authorization

CANDIDATES = 4
LOAD = 0.8
AT_ONCE = 8
"""Streams open at the same time while the server's capacity is measured."""


@dataclass
class Heard:
    """One stream as its reader saw it, in seconds."""

    first_byte: float = math.nan
    arrivals: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    """From an event to its chunk's arrival, less the same of the run's first event."""


def run(*, questions: int, seed: int, server: str | None) -> dict[str, Any]:
    """`questions` streams alone, one after the other, then as many at 80 % load."""
    with running_server(server) as url:
        idle, capacity, loaded = asyncio.run(_measure(url, questions, seed))
    return {
        "questions": questions,
        "seed": seed,
        "candidates": CANDIDATES,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "capacity_per_second": capacity,
        "load": LOAD,
        "idle": summary(idle),
        "loaded": summary(loaded),
    }


async def _measure(url: str, questions: int, seed: int) -> tuple[list[Heard], float, list[Heard]]:
    problems = [problem.question for problem in held_out(questions, seed)]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, headers=authorization(), limits=limits
    ) as client:
        await listen(client, problems[0], seed)  # nothing is measured cold
        idle = [await listen(client, one, seed + at) for at, one in enumerate(problems)]
        capacity = await _capacity(client, problems, seed)
        loaded = await _arriving(client, problems, seed, LOAD * capacity)
    return idle, capacity, loaded


async def _capacity(client: httpx.AsyncClient, problems: list[str], seed: int) -> float:
    """Questions a second with `AT_ONCE` of them always open."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(at: int, problem: str) -> None:
        async with places:
            await listen(client, problem, seed + at)

    began = perf_counter()
    async with asyncio.TaskGroup() as asking:
        for at, problem in enumerate(problems):
            asking.create_task(one(at, problem))
    return len(problems) / (perf_counter() - began)


async def _arriving(
    client: httpx.AsyncClient, problems: list[str], seed: int, rate: float
) -> list[Heard]:
    """Streams that begin at random moments, `rate` a second (Poisson), whoever else is open."""
    pauses = random.Random(seed)
    async with asyncio.TaskGroup() as asking:
        tasks = []
        for at, problem in enumerate(problems):
            tasks.append(asking.create_task(listen(client, problem, seed + at)))
            await asyncio.sleep(pauses.expovariate(rate))
    return [task.result() for task in tasks]


async def listen(client: httpx.AsyncClient, problem: str, seed: int) -> Heard:
    """Ask with every event as a chunk, and note when what arrives."""
    body = {
        "model": "atts",
        "messages": [{"role": "user", "content": problem}],
        "stream": True,
        "atts": {"candidates": CANDIDATES, "seed": seed, "events": True},
    }
    heard, text, asked = Heard(), b"", perf_counter()
    first: tuple[float, float] | None = None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for piece in response.aiter_raw():
            now = perf_counter()
            heard.arrivals.append(now)
            *lines, text = (text + piece).split(b"\n\n")
            for happened in filter(None, map(_at, lines)):
                first = first or (happened, now)
                heard.lags.append((now - first[1]) - (happened - first[0]))
    heard.first_byte = heard.arrivals[0] - asked
    return heard


def _at(line: bytes) -> float | None:
    """When the event of a chunk happened, in seconds of its run."""
    if not line.startswith(b"data: {"):
        return None
    chunk = json.loads(line.removeprefix(b"data: "))
    if "error" in chunk:
        raise RuntimeError(chunk["error"]["message"])
    at = chunk.get("atts", {}).get("at") if not chunk["choices"] else None
    return None if at is None else float(at)


def summary(heard: list[Heard]) -> dict[str, dict[str, float]]:
    """Milliseconds: p50, p95 and the longest."""
    return {
        "first_byte_ms": _spread([one.first_byte for one in heard]),
        "gap_ms": _spread([b - a for one in heard for a, b in pairwise(one.arrivals)]),
        "lag_ms": _spread([lag for one in heard for lag in one.lags]),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * value for value in seconds)
    last = len(ordered) - 1
    return {
        "p50": ordered[last // 2],
        "p95": ordered[min(last, math.ceil(0.95 * last))],
        "max": ordered[last],
    }


def as_table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{result['questions']} held-out problems, m = {result['candidates']}, seed "
        f"{result['seed']}; {result['machine']}; the server answers "
        f"{result['capacity_per_second']:.2f} questions a second",
        "",
        f"{'milliseconds':<34}{'p50':>9}{'p95':>9}{'max':>9}",
    ]
    names = {
        "first_byte_ms": "first byte after the request",
        "gap_ms": "gap between chunks",
        "lag_ms": "chunk after its event",
    }
    for state, said in (("idle", "idle"), ("loaded", f"{result['load']:.0%} load")):
        for name, label in names.items():
            spread = result[state][name]
            lines.append(
                f"{said + ': ' + label:<34}"
                + "".join(f"{spread[key]:>9.1f}" for key in ("p50", "p95", "max"))
            )
    return "\n".join(lines)
