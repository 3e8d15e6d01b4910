"""Policies on Ray Serve: what one hands from replica to replica arrives."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.serve


@pytest.mark.parametrize(
    "policy", ["best-of-n", "deepconf-online", "self-consistency", "atts-sync"]
)
def test_a_policy_answers_over_replicas(served: str, policy: str) -> None:
    body = {
        "model": f"atts:{policy}",
        "messages": [{"role": "user", "content": "Start with 47. Add 38. What is the result?"}],
        "atts": {"candidates": 4, "seed": 1},
    }
    response = httpx.post(f"{served}/v1/chat/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    atts = response.json()["atts"]
    assert (atts["policy"], atts["answer"]) == (policy, "85")
    assert atts["candidates"]["failed"] == 0
    assert (atts["tokens"]["target"]["scored"] > 0) == (policy in ("best-of-n", "atts-sync"))


def test_a_policy_that_cannot_be_served_says_so_over_replicas(served: str) -> None:
    body = {
        "model": "atts:specreason",
        "messages": [{"role": "user", "content": "Start with 47. Add 38. What is the result?"}],
    }
    response = httpx.post(f"{served}/v1/chat/completions", json=body, timeout=120)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "policy_unavailable")
