"""Runs by their id through Ray Serve, with two router replicas: any of them tells and cancels."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import create_engine, select

from benchmarks.server import running_server
from models.arithmetic.problems import held_out
from services import serve_config
from services.store.schema import runs

pytestmark = pytest.mark.serve

PATH = "/v1/chat/completions"
ROUTERS = 2
BODY_SECONDS = 2.0


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database in which the store keeps runs."""
    return tmp_path_factory.mktemp("store") / "runs.db"


@pytest.fixture(scope="module")
def two_routers(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Iterator[str]:
    """The shipped configuration with `ROUTERS` routers, which do not wait long for a body."""
    config = yaml.safe_load(serve_config.LOCAL.read_text())
    arguments = config["applications"][0]["args"]
    arguments["store"] = {"url": f"sqlite:///{kept}"}
    arguments["limits"]["max_body_seconds"] = BODY_SECONDS
    for deployment in config["applications"][0]["deployments"]:
        if deployment["name"] == "Router":
            deployment["num_replicas"] = ROUTERS
    path = tmp_path_factory.mktemp("config") / "two.yaml"
    path.write_text(yaml.safe_dump(config))
    with running_server(None, "--config", str(path)) as url:
        yield url


@pytest.fixture
async def http(two_routers: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=two_routers, timeout=120) as client:
        yield client


def body(candidates: int = 16, **fields: Any) -> dict[str, Any]:
    """A long question, whose candidates nothing stops early."""
    question = next(iter(held_out(1, seed=9))).question
    atts = {"candidates": candidates, "seed": 1, "consensus": False}
    asked = {"model": "atts", "messages": [{"role": "user", "content": question}], "atts": atts}
    return asked | fields


async def requests_in_engines(http: httpx.AsyncClient) -> int:
    """As both pools tell it, asked again where one took too long to answer."""
    while True:
        ready = (await http.get("/ready")).json()
        pools = ready["draft"], ready["target"]
        if not any("error" in pool for pool in pools):
            return sum(pool["running"] + pool["waiting"] for pool in pools)


async def routers_that_answer(http: httpx.AsyncClient, enough: int) -> set[str]:
    """Routers by name, asked until so many have answered: Serve's proxy chooses by chance."""
    seen: set[str] = set()
    async with asyncio.timeout(60):
        while len(seen) < enough:
            seen.add((await http.get("/v1/atts/calibration")).json()["router"])
    return seen


async def run_of(key: str, kept: Path) -> str:
    """The id of the run that a key stands for, once the store has it: a plain request is told its
    run's with the answer only."""
    begun = select(runs.c.id).where(runs.c.idempotency_key == key, runs.c.events > 0)
    database = create_engine(f"sqlite:///{kept}")
    try:
        async with asyncio.timeout(30):
            while True:
                with database.connect() as connection:
                    found = connection.execute(begun).scalar_one_or_none()
                if found is not None:
                    return str(found)
                await asyncio.sleep(0.05)
    finally:
        database.dispose()


class Streaming:
    """A streamed request, whose run is known with its first chunk."""

    def __init__(
        self, http: httpx.AsyncClient, headers: dict[str, str] | None = None, candidates: int = 16
    ) -> None:
        self.lines: list[str] = []
        self.run_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            self._read(http, headers or {}, body(candidates, stream=True))
        )

    async def _read(
        self, http: httpx.AsyncClient, headers: dict[str, str], asked: dict[str, Any]
    ) -> None:
        async with http.stream("POST", PATH, json=asked, headers=headers) as response:
            if response.status_code != 200:
                self.run_id.set_exception(AssertionError(await response.aread()))
                return
            self.run_id.set_result(response.headers["x-atts-run"])
            async for line in response.aiter_lines():
                if line:
                    self.lines.append(line)

    async def whole(self) -> list[str]:
        await self.task
        return self.lines


async def test_a_cancel_at_any_router_idles_the_engines(http: httpx.AsyncClient) -> None:
    """Within a second of the answer to the cancel; `-s` prints the times."""
    await routers_that_answer(http, ROUTERS)
    for _ in range(6):  # with two routers, some of these reach the one that runs nothing
        stream = Streaming(http, candidates=64)
        run_id = await stream.run_id
        while not await requests_in_engines(http):
            await asyncio.sleep(0.01)
        began = monotonic()
        cancelled = await http.post(f"/v1/atts/runs/{run_id}/cancel")
        acknowledged = monotonic()
        async with asyncio.timeout(1):
            while await requests_in_engines(http):
                await asyncio.sleep(0.02)
        print(
            f"cancel answered after {acknowledged - began:.3f} s, engines seen idle "
            f"{monotonic() - acknowledged:.3f} s later"
        )
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        last = json.loads((await stream.whole())[-1].removeprefix("data: "))
        assert last["error"]["code"] == "run_cancelled"


async def test_a_plain_request_that_is_cancelled_gets_an_error_of_its_own(
    http: httpx.AsyncClient, kept: Path
) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    asked = body(candidates=64)
    plain = asyncio.create_task(http.post(PATH, json=asked, headers=key))
    run_id = await run_of(key["Idempotency-Key"], kept)
    cancelled = await http.post(f"/v1/atts/runs/{run_id}/cancel")
    told = await plain
    again = await http.post(PATH, json=asked, headers=key)
    for response in (told, again):
        assert (response.status_code, response.json()["error"]["code"]) == (409, "run_cancelled")
        assert response.headers["x-should-retry"] == "false"
    assert cancelled.json()["status"] == "cancelled"


async def test_a_run_is_told_by_every_router_while_it_runs_and_afterwards(
    http: httpx.AsyncClient,
) -> None:
    stream = Streaming(http)
    path = f"/v1/atts/runs/{await stream.run_id}"
    events: list[Any] = []
    pages = 0
    while True:
        page = (await http.get(f"{path}?after={len(events)}")).json()
        events += page["events"]
        pages += 1
        assert page["next"] == len(events)
        if page["status"] != "running" and not page["more"]:
            break
        await asyncio.sleep(0.05)
    assert (await stream.whole())[-1] == "data: [DONE]"
    assert pages > 3
    for _ in range(8):
        while (whole := (await http.get(f"{path}?limit=10000")).json())["status"] == "running":
            await asyncio.sleep(0.05)  # a router that does not run it is a little behind
        assert whole["events"] == events
    assert [events[at]["event"] for at in (0, -1)] == ["RunStarted", "AnswerReady"]
    finished = [e for e in events if e["event"] == "CandidateFinished"]
    assert len(finished) == 16


async def test_a_request_sent_again_and_again_is_one_run_at_all_routers(
    http: httpx.AsyncClient,
) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    replies = await asyncio.gather(*(http.post(PATH, json=body(), headers=key) for _ in range(8)))
    replies += [await http.post(PATH, json=body(), headers=key) for _ in range(8)]
    assert {response.status_code for response in replies} == {200}
    assert len({response.content for response in replies}) == 1
    other = [await http.post(PATH, json=body(n=2), headers=key) for _ in range(4)]
    assert {response.status_code for response in other} == {422}


async def test_a_body_that_is_not_there_in_time_is_refused_at_serve_s_proxy_too(
    two_routers: str,
) -> None:
    at = httpx.URL(two_routers)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    try:
        head = f"POST {PATH} HTTP/1.1\r\nHost: atts\r\nContent-Type: application/json\r\n"
        writer.write(f'{head}Content-Length: 1000\r\n\r\n{{"model":'.encode())
        async with asyncio.timeout(10 * BODY_SECONDS):
            status = await reader.readline()
            rest = await reader.readuntil(b"}}")
    finally:
        writer.transport.abort()
    assert status.startswith(b"HTTP/1.1 408 ")
    assert b"limits.max_body_seconds" in rest
