"""Each policy answers a real problem with the models that ship with the project."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from atts_core.policies import POLICIES
from services import serve_config
from services.http_app import create_app
from services.local import local_backend

QUESTION = "Start with 47. Add 38. Multiply by 3. What is the result?"
SERVED = [name for name in POLICIES if name != "specreason"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def atts() -> AsyncIterator[httpx.AsyncClient]:
    settings = serve_config.load(serve_config.LOCAL).settings
    async with local_backend(settings) as backend:
        transport = httpx.ASGITransport(create_app(backend))
        async with httpx.AsyncClient(transport=transport, base_url="http://atts") as client:
            yield client


def asking(policy: str, **atts: Any) -> dict[str, Any]:
    return {
        "model": f"atts:{policy}",
        "messages": [{"role": "user", "content": QUESTION}],
        "atts": {"candidates": 4, "seed": 1, **atts},
    }


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("policy", SERVED)
async def test_a_policy_answers_a_problem(atts: httpx.AsyncClient, policy: str) -> None:
    response = await atts.post("/v1/chat/completions", json=asking(policy, consensus=False))
    details = response.json()["atts"]
    assert response.status_code == 200, response.text
    assert (details["policy"], details["aggregation"]) == (
        policy,
        POLICIES[policy].defaults.get("aggregation", "majority"),
    )
    assert details["answer"] is not None
    assert details["candidates"]["failed"] == 0
    wrote = {model: details["tokens"][model]["generated"] > 0 for model in ("draft", "target")}
    assert wrote["draft"] == (policy != "target-only")
    if policy in ("self-consistency", "best-of-n", "draft-only", "deepconf-online"):
        assert not wrote["target"]
    assert (details["tokens"]["target"]["scored"] > 0) == (
        policy in ("atts", "atts-sync", "random-takeover", "best-of-n")
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_policy_that_the_pair_cannot_serve_is_refused_by_name(
    atts: httpx.AsyncClient,
) -> None:
    response = await atts.post("/v1/chat/completions", json=asking("specreason"))
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (
        400,
        "atts.policy",
        "policy_unavailable",
    )
    assert "specreason cannot be served here: it needs a target that" in error["message"]
