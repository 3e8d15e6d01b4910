"""Many clients at once, of which some leave at random moments: what the others get, and what stays.

Each client asks one question after the other, every second one as a stream. Leavers close their
connection at a random moment; who is refused with 429 waits as long as `Retry-After` says. Every
question has a deadline, which those that are admitted must meet. When the time is up the rest is
answered, and then nothing may be left: no run, no engine request, no task of the router's beyond
those it had before, and no more memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.server import running_server
from models.arithmetic.problems import Problem, held_out
from services.client import authorization

LONGEST_STAY = 3.0
"""Seconds after which a leaver has left at the latest."""
LATE_SECONDS = 1.0
"""By how much an answer may be behind its deadline: engines and network take their time."""
IDLE_SECONDS = 30.0
"""How long the server may take to be idle once nobody asks."""


@dataclass
class Seen:
    """What clients got, in seconds; `errors` by what they say.

    `cut` counts answers that a deadline cut short, `late` those that came behind it.
    """

    answered: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    left: int = 0
    cut: int = 0
    late: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def run(
    *,
    clients: int,
    seconds: float,
    leavers: float,
    seed: int,
    server: str | None,
    arguments: Sequence[str] = (),
    deadline: float = 60.0,
) -> dict[str, Any]:
    """`clients` at once for `seconds`; the share `leavers` of them disconnects at random.

    Every question has `deadline` seconds.
    """
    with running_server(server, *arguments) as url:
        return asyncio.run(
            _measure(url, clients, seconds, leavers, seed, deadline, own=server is None)
        )


async def _measure(
    url: str,
    clients: int,
    seconds: float,
    leavers: float,
    seed: int,
    deadline: float,
    *,
    own: bool,
) -> dict[str, Any]:
    problems = list(held_out(200, seed))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=limits, headers=authorization()
    ) as http:
        # Until all is warm.
        await _load(http, min(clients, 16), 5.0, 0.0, problems, seed + 1, deadline)
        await _until_idle(http)
        before, tasks_before = _memory() if own else None, await _tasks(http)
        seen, gone = await _load(http, clients, seconds, leavers, problems, seed, deadline)
        idle_after = await _until_idle(http)
        left, tasks_after = await _left(http), await _tasks(http)
    return {
        "clients": clients,
        "seconds": seconds,
        "leavers": leavers,
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "answered": len(seen.answered),
        "refused": len(seen.refused),
        "left": gone.left,
        "errors": dict(seen.errors + gone.errors),
        "deadline_seconds": deadline,
        "cut_by_deadline": seen.cut,
        "late": seen.late,
        "answer_seconds": _percentiles(seen.answered),
        "first_byte_seconds": _percentiles(seen.first_bytes),
        "refusal_seconds": _percentiles(seen.refused),
        "idle_after_seconds": idle_after,
        "left_running": left,
        "tasks": {"before": tasks_before, "after": tasks_after},
        "memory_mib": {"before": before, "after": _memory() if own else None},
    }


async def _load(
    http: httpx.AsyncClient,
    clients: int,
    seconds: float,
    leavers: float,
    problems: Sequence[Problem],
    seed: int,
    deadline: float,
) -> tuple[Seen, Seen]:
    """What those got that stayed, and those that left: before they leave they may fail as well."""
    seen, gone, until = Seen(), Seen(), monotonic() + seconds
    async with asyncio.TaskGroup() as all_of_them:
        for index in range(clients):
            random = np.random.default_rng([seed, index])
            leaves = index < leavers * clients
            all_of_them.create_task(
                _client(
                    http,
                    gone if leaves else seen,
                    random,
                    problems,
                    until,
                    deadline,
                    leaves=leaves,
                )
            )
    return seen, gone


async def _client(
    http: httpx.AsyncClient,
    seen: Seen,
    random: np.random.Generator,
    problems: Sequence[Problem],
    until: float,
    deadline: float,
    *,
    leaves: bool,
) -> None:
    asked = 0
    while monotonic() < until:
        asked += 1
        problem = problems[int(random.integers(len(problems)))]
        body = {
            "model": "atts",
            "messages": [{"role": "user", "content": problem.question}],
            "stream": asked % 2 == 0,
            "atts": {
                "seed": int(random.integers(2**31)),
                "deadline_ms": round(1000 * deadline),
            },
        }
        stay = random.uniform(0.0, LONGEST_STAY) if leaves else None
        try:
            async with asyncio.timeout(stay):
                await _ask(http, seen, body)
        except TimeoutError:
            seen.left += 1
        except httpx.HTTPError as error:
            seen.errors[type(error).__name__] += 1


async def _ask(http: httpx.AsyncClient, seen: Seen, body: dict[str, Any]) -> None:
    """One question to its end; an answer that is neither whole nor a 429 is an error."""
    began = first = monotonic()
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        told = b""
        async for piece in response.aiter_raw():
            if not told:
                first = monotonic()
            told += piece
    taken = monotonic() - began
    if response.status_code == 429:
        seen.refused.append(taken)
        await asyncio.sleep(float(response.headers["retry-after"]))
    elif response.status_code != 200:
        seen.errors[f"status {response.status_code}"] += 1
    elif not _whole(told, streamed=body["stream"]):
        seen.errors["not a whole answer"] += 1
    else:
        seen.answered.append(taken)
        seen.cut += b'"stopped": "deadline"' in told or b'"stopped":"deadline"' in told
        seen.late += taken > body["atts"]["deadline_ms"] / 1000 + LATE_SECONDS
        if body["stream"]:
            seen.first_bytes.append(first - began)


def _whole(told: bytes, *, streamed: bool) -> bool:
    if streamed:
        return told.endswith(b"data: [DONE]\n\n")
    return bool(json.loads(told)["choices"][0]["message"]["content"])


async def _until_idle(http: httpx.AsyncClient) -> float | None:
    """Seconds until nothing runs; None where something still does after `IDLE_SECONDS`."""
    began = monotonic()
    while monotonic() - began < IDLE_SECONDS:
        if not any((await _left(http)).values()):
            return monotonic() - began
        await asyncio.sleep(0.1)
    return None


async def _left(http: httpx.AsyncClient) -> dict[str, int]:
    """Runs and engine requests that one replica of each deployment has now."""
    state = (await http.get("/ready")).json()
    return {
        "runs": state["running"],
        **{
            model: state[model]["running"] + state[model]["waiting"]
            for model in ("draft", "target")
        },
    }


async def _tasks(http: httpx.AsyncClient) -> int | None:
    """How many asyncio tasks a router has; None where it does not say."""
    tasks: int | None = (await http.get("/ready")).json().get("tasks")
    return tasks


def _memory() -> float:
    """MiB of the server's processes, shared pages counted once."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # ended in between
    return total / 2**20


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": max(values)}


def as_table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{result['clients']} clients for {result['seconds']:.0f} s, {result['leavers']:.0%} of "
        f"them leave at random moments; seed {result['seed']}; {result['machine']}",
        "",
        f"answered {result['answered']}, refused with 429 {result['refused']}, left "
        f"{result['left']}, errors {sum(result['errors'].values())} {result['errors'] or ''}",
        "",
        f"deadline {result['deadline_seconds']:.0f} s: {result['cut_by_deadline']} answers cut by "
        f"it, {result['late']} behind it",
        "",
        f"{'seconds':<22}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}",
    ]
    for name, key in (
        ("to the answer", "answer_seconds"),
        ("to the first byte", "first_byte_seconds"),
        ("to a refusal", "refusal_seconds"),
    ):
        if result[key]:
            row = "".join(f"{result[key][p]:>8.3f}" for p in ("p50", "p95", "p99", "max"))
            lines.append(f"{name:<22}{row}")
    idle = result["idle_after_seconds"]
    memory = result["memory_mib"]
    lines += [
        "",
        f"left running: {result['left_running']}"
        if idle is None
        else f"idle {idle:.1f} s after the last client",
    ]
    tasks = result["tasks"]
    lines.append(f"tasks of the router: {tasks['before']} before, {tasks['after']} after")
    if memory["before"] is not None:
        lines.append(f"memory: {memory['before']:.0f} MiB before, {memory['after']:.0f} after")
    return "\n".join(lines)
