"""All routers are killed with a question: asked again by its key, it is answered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import httpx
import psutil
import pytest
import yaml

from benchmarks.server import running_server
from models.arithmetic.problems import held_out
from services import serve_config

pytestmark = [pytest.mark.slow, pytest.mark.serve, pytest.mark.timeout(600)]

PROBLEM = next(iter(held_out(1, seed=9)))
ROUTERS = 2
ANSWERED_WITHIN = 180
LOST = {"router_lost", "run_lost"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = yaml.safe_load(serve_config.LOCAL.read_text())
    (router,) = [d for d in config["applications"][0]["deployments"] if d["name"] == "Router"]
    router["num_replicas"] = ROUTERS
    path = tmp_path_factory.mktemp("config") / "two.yaml"
    path.write_text(yaml.safe_dump(config))
    with running_server(None, "--config", str(path)) as started:
        yield started


def routers() -> list[psutil.Process]:
    """The routers' processes below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ServeReplica:atts:Router" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue  # ended in between
    return found


def asked(url: str, key: str) -> httpx.Response:
    body = {
        "model": "atts",
        "messages": [{"role": "user", "content": PROBLEM.question}],
        "atts": {"candidates": 64, "seed": 1, "consensus": False},
    }
    headers = {"Idempotency-Key": key}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=180)


def code(reply: httpx.Response) -> Any:
    return reply.json()["error"]["code"]


def await_routers(url: str) -> None:
    """Until as many as there should be have answered."""
    ends, seen = monotonic() + 120, set[str]()
    while len(seen) < ROUTERS or len(routers()) < ROUTERS:
        assert monotonic() < ends, f"only {seen} have answered"
        told = httpx.get(f"{url}/ready", timeout=30).json()
        if "router" in told:
            seen.add(told["router"])


def await_running(url: str, asking: Future[httpx.Response]) -> None:
    """Until one of them says that it runs the question, or it has been answered."""
    ends = monotonic() + 60
    while not asking.done() and not httpx.get(f"{url}/ready", timeout=30).json().get("running"):
        assert monotonic() < ends, "no router runs the question"


def test_a_question_whose_router_was_killed_is_answered_when_it_is_sent_again(url: str) -> None:
    await_routers(url)
    key = str(uuid.uuid4())
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asked, url, key)
        await_running(url, asking)
        killed = routers()  # Serve does not tell which of them has the question
        assert not asking.done()
        for router in killed:
            router.kill()
        reply = asking.result()
    assert len(killed) == ROUTERS
    # Serve's proxy tells the client, or finds another router by itself.
    ends = monotonic() + ANSWERED_WITHIN
    while reply.status_code == 503:
        assert code(reply) in LOST, reply.text
        assert int(reply.headers["Retry-After"]) > 0
        assert monotonic() < ends, reply.text
        time.sleep(int(reply.headers["Retry-After"]))  # as a client does
        reply = asked(url, key)
    assert reply.status_code == 200, reply.text
    told = reply.json()["atts"]
    assert told["candidates"]["failed"] == 0
    assert told["answer"] is not None
    assert asked(url, key).json()["id"] == reply.json()["id"]
