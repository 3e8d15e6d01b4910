"""The main job, end to end: over HTTP, through Serve, with the pair that ships."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from models.arithmetic.problems import held_out
from services.page import FILES

pytestmark = pytest.mark.serve

QUESTION = "Start with 47. Add 38. Multiply by 3. What is the result?"


def body(question: str = QUESTION, **atts: Any) -> dict[str, Any]:
    asked = {"candidates": 8, "seed": 1} | atts
    return {"model": "atts", "messages": [{"role": "user", "content": question}], "atts": asked}


@pytest.fixture
def http(served: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served, timeout=120) as client:
        yield client


def ask(http: httpx.Client, asked: dict[str, Any]) -> dict[str, Any]:
    response = http.post("/v1/chat/completions", json=asked)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def engines(http: httpx.Client) -> dict[str, int]:
    """Requests running or waiting, by pool."""
    ready = http.get("/ready").json()
    return {pool: ready[pool]["running"] + ready[pool]["waiting"] for pool in ("draft", "target")}


async def working(http: httpx.AsyncClient) -> int:
    """Questions running, and requests running or waiting in the engines."""
    ready = (await http.get("/ready")).json()
    pools = [ready[pool] for pool in ("draft", "target")]
    return int(ready["running"] + sum(pool["running"] + pool["waiting"] for pool in pools))


def test_a_question_is_answered_right(http: httpx.Client) -> None:
    reply = ask(http, body())
    assert reply["atts"]["answer"] == "255"
    assert r"\boxed{255}" in reply["choices"][0]["message"]["content"]
    assert reply["atts"]["candidates"]["failed"] == 0


def test_the_page_and_its_files_come_through_serve(http: httpx.Client) -> None:
    page = http.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.content == FILES["/"].read_bytes()
    script = http.get("/web/app.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.content == FILES["/web/app.js"].read_bytes()
    again = http.get("/web/app.js", headers={"if-none-match": script.headers["etag"]})
    assert again.status_code == 304


def test_a_client_s_request_id_comes_back_once(http: httpx.Client) -> None:
    reply = http.get("/health", headers={"X-Request-ID": "run-7"})
    assert reply.headers.get_list("x-request-id") == ["run-7"]


def test_a_client_cannot_switch_serve_s_timeout_to_nothing(http: httpx.Client) -> None:
    """Serve's proxy would answer 408 at once if the header reached it."""
    unsafe = {"x-request-timeout-seconds": "0.001"}
    assert http.post("/v1/chat/completions", json=body(), headers=unsafe).status_code == 200


def test_scoring_reads_the_chain_from_the_cache(http: httpx.Client) -> None:
    """A segment's score costs the segment: nearly all of the history was cached."""
    problem = next(iter(held_out(1, seed=5)))
    target = ask(http, body(problem.question, consensus=False))["atts"]["tokens"]["target"]
    assert target["cached"] > 0.6 * target["prompt"]


def test_long_problems_are_answered_together(http: httpx.Client) -> None:
    problems = list(held_out(12, seed=3))
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda p: ask(http, body(p.question)), problems))
    right = [r["atts"]["answer"] == p.answer for r, p in zip(replies, problems, strict=True)]
    assert sum(right) >= 9


def test_the_scores_reach_the_store(http: httpx.Client) -> None:
    reply = ask(http, body())
    calibration = reply["atts"]["calibration"]
    assert calibration["store_error"] is None
    assert calibration["snapshot_age_seconds"] < 30


def test_a_question_the_pair_was_not_made_for_is_answered_with_low_agreement(
    http: httpx.Client,
) -> None:
    reply = ask(http, body("What is the capital of France?"))
    assert reply["atts"]["agreement"] <= 0.5
    assert reply["atts"]["candidates"]["failed"] == 0


def test_a_question_of_odd_characters_costs_no_candidate(http: httpx.Client) -> None:
    reply = ask(http, body("Qui était Évariste Galois ? 🤔 <b>" + "x" * 300))
    assert reply["atts"]["candidates"]["failed"] == 0


def test_a_prompt_longer_than_the_context_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json=body("x" * 20_000))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "messages")
    assert "Traceback" not in error["message"]


def test_a_bad_field_is_refused_through_serve_too(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json=body(takeover_rate=1.5))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "atts.takeover_rate"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_leaves_the_engines_idle_within_a_second(
    served: str, stream: bool
) -> None:
    problem = next(iter(held_out(1, seed=9)))
    asked = body(problem.question, candidates=64, consensus=False) | {"stream": stream}
    async with httpx.AsyncClient(base_url=served, timeout=60) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=asked))
        while not await working(http):
            await asyncio.sleep(0.01)
        asking.cancel()
        async with asyncio.timeout(1):
            while await working(http):
                await asyncio.sleep(0.02)


def test_events_stream_through_serve(http: httpx.Client) -> None:
    asked = body(events=True) | {"stream": True}
    with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert '"event": "SegmentScored"' in "".join(lines)


@pytest.mark.parametrize("stream", [False, True])
async def test_at_its_deadline_a_question_is_answered_and_the_engines_are_idle_within_a_second(
    served: str, stream: bool
) -> None:
    problem = next(iter(held_out(1, seed=9)))
    asked = body(problem.question, candidates=64, consensus=False, deadline_ms=1000)
    async with httpx.AsyncClient(base_url=served, timeout=60) as http:
        response = await http.post("/v1/chat/completions", json=asked | {"stream": stream})
        async with asyncio.timeout(1):
            while await working(http):
                await asyncio.sleep(0.02)
    assert response.status_code == 200, response.text
    if stream:
        *chunks, done = response.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        atts = json.loads(chunks[-1].removeprefix("data: "))["atts"]
    else:
        atts = response.json()["atts"]
    assert atts["stopped"] == "deadline"
    assert atts["candidates"]["cancelled"] > 0
