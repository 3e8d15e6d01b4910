"""What metrics cost: the same questions to a server that measures and one that does not, in turns.

Both servers are up all the time and one of them is asked at a time, in the order A B, B A, A B, …:
what else the machine does falls on both alike. A pair of turns answers the same questions with the
same seeds. What is compared is throughput, in generated tokens a second: the two gates learn in
different orders, so the chains are not quite the same. The cost is the median over pairs.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import numpy as np
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
        urls = [
            stack.enter_context(running_server(None, "--config", str(configuration(folder, on))))
            for on in (True, False)
        ]
        speeds = asyncio.run(_measure(urls, pairs, problems, at_once, seed))
    ratios = [on / off for on, off in speeds]
    low, high = interval(ratios)
    return {
        "pairs": pairs,
        "problems": problems,
        "at_once": at_once,
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "tokens_per_second": {"on": [on for on, _ in speeds], "off": [off for _, off in speeds]},
        "ratios": ratios,
        "cost": 1 - median(ratios),
        "cost_low": 1 - high,
        "cost_high": 1 - low,
    }


def configuration(folder: Path, on: bool) -> Path:
    """The shipped configuration with metrics on or off, in a file."""
    document = yaml.safe_load(serve_config.LOCAL.read_text())
    document["applications"][0]["args"]["metrics"] = {"enabled": on}
    path = folder / f"metrics-{on}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def _measure(
    urls: Sequence[str], pairs: int, problems: int, at_once: int, seed: int
) -> list[tuple[float, float]]:
    """Tokens a second in each pair of turns: of the server that measures, and of the other."""
    found = []
    async with httpx.AsyncClient(timeout=600, headers=authorization()) as http:
        for url in urls:  # until all is warm
            await _turn(http, url, list(held_out(problems, seed + 1)), at_once, seed)
        for pair in range(pairs):
            asked = list(held_out(problems, seed + 2 + pair))
            took = {}
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                took[which] = await _turn(http, urls[which], asked, at_once, seed)
            found.append((took[0], took[1]))
    return found


async def _turn(
    http: httpx.AsyncClient, url: str, problems: list[Problem], at_once: int, seed: int
) -> float:
    """Tokens a second. No consensus: how much is computed is no matter of timing."""
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
            reply = await http.post(f"{url}/v1/chat/completions", json=body)
        tokens += reply.raise_for_status().json()["usage"]["completion_tokens"]

    began = perf_counter()
    async with asyncio.TaskGroup() as turn:
        for index, problem in enumerate(problems):
            turn.create_task(ask(index, problem))
    return tokens / (perf_counter() - began)


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
        "| pair | metrics on, tokens/s | off, tokens/s | ratio |",
        "|---|---|---|---|",
    ]
    speeds = result["tokens_per_second"]
    rows = zip(speeds["on"], speeds["off"], result["ratios"], strict=True)
    lines += [
        f"| {at} | {on:.0f} | {off:.0f} | {ratio:.3f} |"
        for at, (on, off, ratio) in enumerate(rows, start=1)
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"metrics cost {result['cost']:+.1%} of throughput (median; with probability "
            f"{KEPT:.0%} between {result['cost_low']:+.1%} and {result['cost_high']:+.1%})",
        ]
    )
