"""Two replicas of each model: what the replies say they cost is what the replicas have counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.server import running_server
from models.arithmetic.problems import held_out
from services.serve_config import LOCAL

pytestmark = [pytest.mark.serve, pytest.mark.timeout(300)]

COUNTED = {
    "generated": "written_tokens",
    "scored": "rated_tokens",
    "prompt": "prompt_tokens",
    "cached": "cached_tokens",
}
STOPS: list[dict[str, Any]] = [
    {"stop_after": 1},
    {"stop_after": 3},
    {"confidence": 0.8},
    {"consensus": True},
    {"deadline_ms": 1500},
    {"stop_after": 2, "policy": "best-of-n"},
    {"stop_after": 2, "policy": "target-only"},
    {"stop_after": 2, "policy": "speculative-thinking"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = yaml.safe_load(LOCAL.read_text())
    for deployment in config["applications"][0]["deployments"]:
        if deployment["name"] in ("Draft", "Target"):
            deployment.update(num_replicas=2, ray_actor_options={"num_cpus": 0.1})
    path: Path = tmp_path_factory.mktemp("four") / "two_of_each.yaml"
    path.write_text(yaml.safe_dump(config))
    with running_server(None, "--config", str(path)) as url:
        counted(url)
        yield url


def counted(url: str) -> dict[tuple[str, str], int]:
    """By model and kind, the tokens that its two replicas have counted; each of them is idle."""
    deadline, seen = monotonic() + 60, dict[str, dict[str, Any]]()
    while len(seen) < 4 or any(one["running"] + one["waiting"] for one in seen.values()):
        assert monotonic() < deadline, seen
        ready = httpx.get(f"{url}/ready", timeout=10).json()
        for model in ("draft", "target"):
            seen[ready[model]["replica"]] = ready[model] | {"model": model}
    return {
        (model, kind): sum(one[name] for one in seen.values() if one["model"] == model)
        for model in ("draft", "target")
        for kind, name in COUNTED.items()
    }


async def replies(url: str, seed: int, at_once: int) -> list[dict[str, Any]]:
    """What questions that all cut chains are answered, `at_once` of them under way."""
    problems = held_out(3 * len(STOPS), seed=seed)
    places = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def ask(number: int, question: str) -> dict[str, Any]:
            asked = {"candidates": 12, "seed": number, "start": "all"} | STOPS[number % len(STOPS)]
            body = {"model": "atts", "messages": [{"role": "user", "content": question}]}
            async with places:
                response = await client.post("/v1/chat/completions", json=body | {"atts": asked})
            assert response.status_code == 200, response.text
            reply: dict[str, Any] = response.json()["atts"]
            return reply

        return await asyncio.gather(*(ask(n, one.question) for n, one in enumerate(problems)))


@pytest.mark.parametrize("at_once", [1, 6])
def test_the_replies_of_cut_runs_say_all_that_the_replicas_did(server: str, at_once: int) -> None:
    before = counted(server)
    told = asyncio.run(replies(server, seed=30 + at_once, at_once=at_once))
    after = counted(server)
    assert sum(one["candidates"]["cancelled"] for one in told) > 50
    assert {
        (model, kind): sum(one["tokens"][model][kind] for one in told) for model, kind in before
    } == {what: after[what] - before[what] for what in before}
