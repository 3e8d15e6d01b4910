"""What a client gets at a proxy whose router is lost, and of what Serve says by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from services.proxy import EveryRequestAnswered

SSE = [(b"content-type", b"text/event-stream")]
TEXT = [(b"content-type", b"text/plain")]


def start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def through(*messages: dict[str, Any], path: str = "/v1/models") -> list[Any]:
    """What arrives of the messages that Serve's proxy sends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    arrived: list[Any] = []

    async def send(message: Any) -> None:
        arrived.append(message)

    await EveryRequestAnswered(app)({"type": "http", "path": path}, receive, send)
    return arrived


def told(arrived: list[Any]) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    begin, content = arrived
    assert not content["more_body"]
    headers = dict(begin["headers"])
    assert int(headers[b"content-length"]) == len(content["body"])
    return begin["status"], headers, json.loads(content["body"])["error"]


async def test_a_request_whose_router_was_lost_is_to_be_sent_again() -> None:
    status, headers, error = told(await through())
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert (error["type"], error["code"]) == ("server_error", "router_lost")


async def test_a_request_whose_router_was_lost_keeps_its_id() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # As Serve's own middleware does, which stands inside ours.
        scope["headers"] = [*scope["headers"], (b"x-request-id", b"run-7")]

    arrived: list[Any] = []

    async def send(message: Any) -> None:
        arrived.append(message)

    scope: Scope = {"type": "http", "path": "/v1/models", "headers": []}
    await EveryRequestAnswered(app)(scope, None, send)  # type: ignore[arg-type]
    _, headers, error = told(arrived)
    assert (headers[b"x-request-id"], error["code"]) == (b"run-7", "router_lost")


async def test_a_stream_whose_router_was_lost_ends_with_an_error() -> None:
    said = [start(200, SSE), body(b"data: 1\n\n", more=True)]
    arrived = await through(*said)
    assert arrived[:2] == said
    assert not arrived[2]["more_body"]
    error = json.loads(arrived[2]["body"].removeprefix(b"data: "))["error"]
    assert error["code"] == "router_lost"


async def test_any_other_reply_whose_router_was_lost_stays_cut() -> None:
    said = [start(200, [(b"content-length", b"9")]), body(b"123", more=True)]
    assert await through(*said) == said


@pytest.mark.parametrize(
    "said",
    [
        [start(200, SSE), body(b"data: 1\n\n", more=True), body(b"data: [DONE]\n\n")],
        [start(200, [(b"content-type", b"application/json")]), body(b"{}")],
        [start(400, [(b"content-type", b"application/json")]), body(b"{}")],
        [start(200, TEXT), body(b"a page")],
    ],
)
async def test_what_is_whole_passes_as_it_is(said: list[dict[str, Any]]) -> None:
    assert await through(*said) == said


async def test_what_serve_refuses_in_plain_text_becomes_json() -> None:
    said = start(503, TEXT), body(b"Deployment 'Router' is ", more=True), body(b"unavailable.\n")
    status, headers, error = told(await through(*said))
    assert status == 503
    assert headers == {
        b"content-type": b"application/json",
        b"content-length": headers[b"content-length"],
        b"retry-after": b"1",
    }
    assert (error["message"], error["type"]) == (
        "Deployment 'Router' is unavailable.",
        "server_error",
    )


async def test_how_long_serve_wants_a_client_to_wait_is_kept() -> None:
    said = start(503, [*TEXT, (b"retry-after", b"7")]), body(b"no")
    _, headers, _ = told(await through(*said))
    assert headers[b"retry-after"] == b"7"


async def test_serve_s_own_health_route_speaks_as_it_does() -> None:
    said = [start(503, TEXT), body(b"DRAINING")]
    assert await through(*said, path="/-/healthz") == said
