"""API keys and their limits, pages of other origins, and headers no client may send."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from atts_core.errors import BadInput
from services.access import Access, all_keys, hashed, new_key, require_keys
from services.proxy import WithoutUnsafeHeaders, middlewares
from services.settings import ENVIRONMENT, AccessSettings, Key
from tests.services.conftest import backend, client

ASKED = {
    "model": "atts",
    "messages": [{"role": "user", "content": "What is 1 + 1?"}],
    "atts": {"candidates": 1},
}


def guarded(*keys: dict[str, Any]) -> httpx.AsyncClient:
    return client(backend(access={"keys": keys}))


def as_(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_without_keys_everybody_may_ask() -> None:
    async with guarded() as http:
        assert (await http.post("/v1/chat/completions", json=ASKED)).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, as_("wrong"), {"Authorization": "Basic right"}, {"Authorization": "Bearer"}]
)
@pytest.mark.parametrize("path", ["/v1/models", "/ready", "/docs", "/openapi.json", "/nothing"])
async def test_without_a_known_key_every_path_is_closed(path: str, headers: dict[str, str]) -> None:
    async with guarded({"name": "ann", "sha256": hashed("right")}) as http:
        refused = await http.get(path, headers=headers)
    assert refused.status_code == 401
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert "ann" not in refused.text


async def test_each_key_opens_and_health_needs_none() -> None:
    keys = [{"name": name, "sha256": hashed(name)} for name in ("ann", "ben")]
    async with guarded(*keys) as http:
        assert (await http.get("/health")).status_code == 200
        for name in ("ann", "ben"):
            assert (await http.get("/v1/models", headers=as_(name))).status_code == 200


@pytest.mark.parametrize("environment", [{}, {ENVIRONMENT: ""}, {ENVIRONMENT: " , "}])
def test_where_keys_are_required_none_is_refused(environment: dict[str, str]) -> None:
    required = AccessSettings(required=True)
    with pytest.raises(BadInput, match=r"access.required: there are no API keys.*atts key NAME"):
        require_keys(required, environment)
    require_keys(required, {ENVIRONMENT: "one"})
    given = AccessSettings(required=True, keys=(Key(name="ann", sha256=hashed("right")),))
    require_keys(given, environment)
    require_keys(AccessSettings(), environment)


def test_keys_of_the_environment_count_too() -> None:
    found = all_keys(AccessSettings(), {ENVIRONMENT: "one, two,"})
    assert [key.sha256 for key in found] == [hashed("one"), hashed("two")]


def test_new_keys_differ() -> None:
    assert len({new_key() for _ in range(100)}) == 100


async def reached(access: Access, key: str) -> int:
    """The status a request with this key gets."""
    seen: list[Any] = []

    async def send(message: Any) -> None:
        seen.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/models",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
    }
    await access(scope, receive, send)
    return int(seen[0]["status"])


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def test_a_key_over_its_rate_waits_and_others_do_not() -> None:
    now = 0.0
    access = Access(
        answering,
        [
            Key(name="ann", sha256=hashed("ann"), requests_per_minute=2),
            Key(name="ben", sha256=hashed("ben")),
        ],
        clock=lambda: now,
    )
    assert [await reached(access, "ann") for _ in range(3)] == [200, 200, 429]
    assert await reached(access, "ben") == 200
    now = 30.0
    assert [await reached(access, "ann") for _ in range(2)] == [200, 429]


async def test_a_key_with_too_much_open_waits_until_something_ends() -> None:
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await answering(scope, receive, send)

    access = Access(slow, [Key(name="ann", sha256=hashed("ann"), concurrent=1)])
    first = asyncio.create_task(reached(access, "ann"))
    await asyncio.sleep(0)
    assert await reached(access, "ann") == 429
    release.set()
    assert await first == 200
    assert await reached(access, "ann") == 200


async def test_a_refusal_says_when_to_try_again() -> None:
    key = {"name": "ann", "sha256": hashed("ann"), "requests_per_minute": 1}
    async with guarded(key) as http:
        await http.get("/v1/models", headers=as_("ann"))
        refused = await http.get("/v1/models", headers=as_("ann"))
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["type"] == "rate_limit_error"


async def test_pages_of_other_origins_are_let_in_by_name_only() -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    allowed = client(backend(access={"cors_origins": ["https://app.example"]}))
    async with guarded() as closed, allowed as opened:
        path = "/v1/chat/completions"
        refused = await closed.options(path, headers=asked)
        granted = await opened.options(path, headers=asked)
    assert "access-control-allow-origin" not in refused.headers
    assert granted.headers["access-control-allow-origin"] == "https://app.example"


async def test_openai_s_client_may_call_from_a_page_of_a_named_origin() -> None:
    names = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,idempotency-key"
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": names,
    }
    async with client(backend(access={"cors_origins": ["https://app.example"]})) as http:
        granted = await http.options("/v1/chat/completions", headers=asked)
        stranger = asked | {"Origin": "https://other.example"}
        refused = await http.options("/v1/chat/completions", headers=stranger)
        answer = await http.post("/v1/chat/completions", json=ASKED, headers=asked)
    assert granted.status_code == 200
    assert set(names.split(",")) <= set(granted.headers["access-control-allow-headers"].split(","))
    assert "access-control-allow-origin" not in refused.headers
    shown = set(answer.headers["access-control-expose-headers"].split(", "))
    assert {"retry-after", "x-request-id", "x-atts-run"} <= shown


async def test_headers_that_switch_serve_s_protections_off_never_arrive() -> None:
    arrived: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.extend(scope["headers"])

    used: list[object] = [one.cls for one in middlewares()]
    assert WithoutUnsafeHeaders in used
    headers = [(b"X-Request-Timeout-Seconds", b"0"), (b"x-request-disconnect-disabled", b"?1")]
    scope = {"type": "http", "headers": [*headers, (b"accept", b"*/*")]}
    await WithoutUnsafeHeaders(app)(scope, None, None)  # type: ignore[arg-type]
    assert arrived == [(b"accept", b"*/*")]
