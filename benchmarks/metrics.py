"""What metrics cost: the same questions to a server that measures and one that does not, in turns.

Both servers are up all the time and one of them is asked at a time, in the order A B, B A, A B, …:
what else the machine does falls on both alike. A pair of turns answers the same questions with the
same seeds. What is compared is throughput, in generated tokens: the two gates learn in different
orders, so the chains are not quite the same. It is told by the wall's seconds and by those of the
processors that all of the server's processes took: they bound what a busy server does, and depend
little on what else the machine does. The cost is the median over pairs.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import psutil
import yaml

from benchmarks.server import running_server
from models.arithmetic.problems import Problem, held_out
from services import serve_config
from services.client import authorization

KEPT = 0.9
"""Probability that the true cost lies in the interval that is told."""


def run(*, pairs: int, problems: int, at_once: int, seed: int) -> dict[str, Any]:
    """`pairs` of turns of `problems` questions each, `at_once` in flight."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [stack.enter_context(_server(configuration(folder, on))) for on in (True, False)]
        speeds = asyncio.run(_measure(servers, pairs, problems, at_once, seed))
    return {
        "pairs": pairs,
        "problems": problems,
        "at_once": at_once,
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{
            name: _compared([(getattr(on, name), getattr(off, name)) for on, off in speeds])
            for name in ("per_second", "per_cpu_second")
        },
    }


def _compared(speeds: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Tokens a second, on and off, and what the first are fewer by, as a share."""
    ratios = [on / off for on, off in speeds]
    low, high = interval(ratios)
    return {
        "on": [on for on, _ in speeds],
        "off": [off for _, off in speeds],
        "ratios": ratios,
        "cost": 1 - median(ratios),
        "cost_low": 1 - high,
        "cost_high": 1 - low,
    }


@dataclass(frozen=True)
class Server:
    """Where it listens, and its processes."""

    url: str
    processes: Sequence[psutil.Process]

    def cpu_seconds(self) -> float:
        """Seconds of processors that its processes have taken, those that have ended left out."""
        total = 0.0
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@dataclass(frozen=True)
class Speed:
    """Generated tokens a second of the wall's time, and of the server's processors."""

    per_second: float
    per_cpu_second: float


@contextmanager
def _server(config: Path) -> Iterator[Server]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with running_server(None, "--config", str(config)) as url:
        children = psutil.Process().children(recursive=True)
        yield Server(url, [child for child in children if child.pid not in before])


def configuration(folder: Path, on: bool) -> Path:
    """The shipped configuration with metrics on or off, in a file."""
    document = yaml.safe_load(serve_config.LOCAL.read_text())
    document["applications"][0]["args"]["metrics"] = {"enabled": on}
    path = folder / f"metrics-{on}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def _measure(
    servers: Sequence[Server], pairs: int, problems: int, at_once: int, seed: int
) -> list[tuple[Speed, Speed]]:
    """The speeds in each pair of turns: of the server that measures, and of the other."""
    found = []
    async with httpx.AsyncClient(timeout=600, headers=authorization()) as http:
        for server in servers:  # until all is warm
            await _turn(http, server, list(held_out(problems, seed + 1)), at_once, seed)
        for pair in range(pairs):
            asked = list(held_out(problems, seed + 2 + pair))
            took = {}
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                took[which] = await _turn(http, servers[which], asked, at_once, seed)
            found.append((took[0], took[1]))
    return found


async def _turn(
    http: httpx.AsyncClient, server: Server, problems: list[Problem], at_once: int, seed: int
) -> Speed:
    """No consensus: how much is computed is no matter of timing."""
    tokens = 0
    places = asyncio.Semaphore(at_once)

    async def ask(index: int, problem: Problem) -> None:
        nonlocal tokens
        body = {
            "model": "atts",
            "messages": [{"role": "user", "content": problem.question}],
            "atts": {"seed": seed + index, "consensus": False},
        }
        async with places:
            reply = await http.post(f"{server.url}/v1/chat/completions", json=body)
        tokens += reply.raise_for_status().json()["usage"]["completion_tokens"]

    began, spent = perf_counter(), server.cpu_seconds()
    async with asyncio.TaskGroup() as turn:
        for index, problem in enumerate(problems):
            turn.create_task(ask(index, problem))
    took, spent = perf_counter() - began, server.cpu_seconds() - spent
    return Speed(tokens / took, tokens / spent)


def interval(ratios: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """Bootstrap interval of the median ratio, which holds it with probability `KEPT`."""
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(ratios), (draws, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - KEPT) / 2, (1 + KEPT) / 2])
    return float(low), float(high)


def as_table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['pairs']} pairs of turns, {result['problems']} problems each, "
        f"{result['at_once']} at once; {result['machine']}",
        "",
        "| pair | metrics on, tokens/s | off, tokens/s | ratio | on, tokens/CPU s | off | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    wall, cpu = result["per_second"], result["per_cpu_second"]
    columns = [found[name] for found in (wall, cpu) for name in ("on", "off", "ratios")]
    lines += [
        f"| {at} | {on:.0f} | {off:.0f} | {ratio:.3f} | {cpu_on:.0f} | {cpu_off:.0f} | {cpu:.3f} |"
        for at, (on, off, ratio, cpu_on, cpu_off, cpu) in enumerate(zip(*columns, strict=True), 1)
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"metrics cost {_told(wall)} of throughput by the wall's time,",
            f"             {_told(cpu)} by the server's processors",
            f"(medians; the intervals hold the true one with probability {KEPT:.0%})",
        ]
    )


def _told(found: dict[str, Any]) -> str:
    return f"{found['cost']:+.1%} ({found['cost_low']:+.1%} … {found['cost_high']:+.1%})"
