"""Questions asked at many doors at once, as a load balancer spreads them, and what became of each.

A door whose node has gone refuses the connection: the question was not accepted, and goes to
another. What was accepted must be answered, or fail in a way that a client can read and repeat.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any, Literal

import httpx

from benchmarks.nodes import HTTP_PORT
from models.arithmetic.problems import Problem, held_out

Outcome = Literal["answered", "retryable", "door lost", "wrong"]
"""`retryable`: status 429 or 503 as JSON in OpenAI's shape, or such an error as a stream's last
chunk. `door lost`: the node that the client spoke to went away with the connection. `wrong`: all
else: another status or body, a stream cut without a word, no end in time."""

OUT_SECONDS = 5.0
"""How long a door that did not answer is left alone."""


@dataclass(frozen=True)
class Asked:
    """One accepted question; times are seconds of the machine's monotonic clock."""

    began: float
    ended: float
    outcome: Outcome
    said: str = ""
    right: bool = False
    details: dict[str, Any] = field(default_factory=dict)


class Load:
    """`at_once` clients, each asking one question after the other until `stop`."""

    def __init__(
        self,
        doors: Sequence[str],
        *,
        at_once: int = 20,
        candidates: int = 4,
        limit: float = 130.0,
        seed: int = 1,
    ) -> None:
        """`limit`: seconds after which an accepted question counts as hung; those in which the
        machine stood still, and nobody could answer, are not counted."""
        self.asked: list[Asked] = []
        self.open = 0
        self.lost: set[str] = set()
        """Doors that are known to have gone: a connection that breaks there is no wonder."""
        self._doors = list(doors)
        self._at_once, self._candidates, self._limit = at_once, candidates, limit
        self._out: dict[str, float] = {}
        self._turn = count()
        self._problems = _problems(seed)
        self._seeds = count(1000 * seed)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        timeout = httpx.Timeout(None, connect=3)
        self._http = httpx.AsyncClient(
            timeout=timeout,
            # A client of each question's own: what a broken connection does to others is no part.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._at_once)]
        return self

    async def __aexit__(self, *gone_wrong: object) -> None:
        self._stopping.set()
        if gone_wrong[0] is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=gone_wrong[0] is not None)
        await self._http.aclose()

    async def stop(self) -> None:
        """No client asks again; returns when the last has its answer."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def answered(self, number: int, since: float = 0.0) -> None:
        """Until so many questions that were asked after `since` have been answered."""
        while sum(a.outcome == "answered" and a.began >= since for a in self.asked) < number:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.1)

    async def _client(self) -> None:
        while not self._stopping.is_set():
            asked = await self._ask(next(self._problems), next(self._seeds))
            if asked is None:
                await asyncio.sleep(0.1)
                continue
            self.asked.append(asked)
            if asked.outcome == "retryable":
                await asyncio.sleep(1.0)

    def _door(self) -> str:
        now = monotonic()
        there = [d for d in self._doors if self._out.get(d, 0.0) < now]
        return (there or self._doors)[next(self._turn) % len(there or self._doors)]

    async def _ask(self, problem: Problem, seed: int) -> Asked | None:
        """None where no door took the question."""
        door, began = self._door(), monotonic()
        streamed = seed % 2 == 0
        body = {
            "model": "atts",
            "messages": [{"role": "user", "content": problem.question}],
            "stream": streamed,
            "atts": {"candidates": self._candidates, "seed": seed},
        }
        url = f"http://{door}:{HTTP_PORT}/v1/chat/completions"
        self.open += 1
        try:
            async with (
                _turns(self._limit),
                self._http.stream("POST", url, json=body) as reply,
            ):
                content = await reply.aread()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self._out[door] = monotonic() + OUT_SECONDS
            return None
        except (httpx.HTTPError, TimeoutError) as error:
            gone = door in self.lost and not isinstance(error, TimeoutError)
            said = f"{type(error).__name__}: {error} (at {door})"
            return Asked(began, monotonic(), "door lost" if gone else "wrong", said)
        finally:
            self.open -= 1
        outcome, said, told = read(reply.status_code, reply.headers, content, streamed=streamed)
        right = told.get("answer") == problem.answer
        return Asked(began, monotonic(), outcome, said, right, told)


@asynccontextmanager
async def _turns(seconds: float) -> AsyncIterator[None]:
    """`TimeoutError` after so many seconds in which this process had its turns."""

    async def count_down(limit: asyncio.Timeout) -> None:
        for _ in range(math.ceil(seconds)):
            await asyncio.sleep(1)
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit:
        counting = asyncio.create_task(count_down(limit))
        try:
            yield
        finally:
            counting.cancel()


def read(
    status: int, headers: httpx.Headers, content: bytes, *, streamed: bool
) -> tuple[Outcome, str, dict[str, Any]]:
    """What a reply is, what it says if it is no answer, and an answer's `atts` object."""
    text = content.decode(errors="replace")
    if status == 200 and streamed:
        return _read_stream(text)
    try:
        body = json.loads(text)
        if status == 200:
            return "answered", "", body["atts"]
        error = body["error"]
        said = f"{status} {error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return "wrong", f"status {status}: {text[:200]!r}", {}
    retryable = status in (429, 503) and "retry-after" in headers
    return ("retryable" if retryable else "wrong"), said, {}


def _read_stream(text: str) -> tuple[Outcome, str, dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    if lines and lines[-1] == "[DONE]":
        told = [json.loads(line) for line in lines[:-1]]
        (details,) = [c["atts"] for c in told if "votes" in c.get("atts", {})]
        return "answered", "", details
    try:
        error = json.loads(lines[-1])["error"]
    except (ValueError, KeyError, IndexError):
        return "wrong", f"a stream that is cut: {text[-200:]!r}", {}
    retryable = error["type"] == "server_error" and error["code"] != "internal_error"
    return ("retryable" if retryable else "wrong"), f"in a stream, {error}", {}


def _problems(seed: int) -> Iterator[Problem]:
    while True:
        yield from held_out(200, seed)
