"""Two thousand broken bodies: each gets an answer, or an error that says what is wrong with it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from services.completions import CompletionRequest
from services.wire import AttsOptions, ChatRequest
from tests.services.conftest import backend, client

BODIES = 2000

CHAT = {
    "model": "atts",
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
    ],
    "temperature": 0.5,
    "max_tokens": 50,
    "stop": ["END"],
    "n": 1,
    "stream": False,
    "atts": {"candidates": 2, "turns": 2, "takeover_rate": 0.4, "seed": 1, "aggregation": "first"},
}
TEXT = {"model": "atts", "prompt": "1 + 1?", "seed": 1, "atts": {"candidates": 2}}


def deep(depth: int) -> Any:
    nested: Any = None
    for level in range(depth):
        nested = [nested] if level % 2 else {"content": nested}
    return nested


ODD: list[Callable[[random.Random], Any]] = [
    lambda r: None,
    lambda r: r.choice([True, False]),
    lambda r: r.choice([0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**40, 10**400]),
    lambda r: r.choice([0.0, -0.0, 0.5, 1.0, 1e308, -1e308, 5e-324]),
    lambda r: r.choice([float("nan"), float("inf"), float("-inf")]),
    lambda r: r.choice(["", " ", "0", "null", "a" * 3000, "\x00", "\ud800", "🤔" * 50, "\u202e"]),
    lambda r: "".join(chr(r.choice([r.randrange(32), r.randrange(0x11000)])) for _ in range(20)),
    lambda r: r.choice([[], {}, [[]], [None], [{}], {"": None}, [1, "a", None], {"type": "text"}]),
    lambda r: deep(r.choice([3, 30, 300])),
    lambda r: [r.random() for _ in range(r.choice([5, 500]))],
    lambda r: {chr(97 + i): None for i in range(26)},
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a body."""
    inside = list(value.items() if isinstance(value, dict) else enumerate(value))
    here = [(value, key) for key, _ in inside]
    return here + [p for _, v in inside if isinstance(v, dict | list) for p in places(v)]


def broken(r: random.Random) -> tuple[str, bytes]:
    """A path and a body for it, changed in one to three places."""
    path, whole = r.choice([("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)])
    body: Any = copy.deepcopy(whole)
    for _ in range(r.randint(1, 3)):
        holder, key = r.choice(places(body))
        match r.randrange(4):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[r.choice([*KNOWN, "".join(r.choices("abcdü\ud83d\x00 ", k=5))])] = odd(r)
            case _:
                holder[key] = odd(r)
        if not body:
            break
    if r.random() < 0.05:
        body = odd(r)
    text = json.dumps(body, ensure_ascii=r.random() < 0.5)
    raw = text.encode("utf-8", "surrogatepass")
    match r.randrange(20):
        case 0:
            raw = raw[: r.randrange(len(raw) + 1)]
        case 1:
            at = r.randrange(len(raw) + 1)
            raw = raw[:at] + bytes([r.randrange(256)]) + raw[at:]
        case 2:
            raw = raw.replace(b"{", b'{"model": "atts", "model": 5, ', 1)
        case 3:
            raw = b'{"a":' * 5000 + raw
        case 4:
            raw = raw.replace(b'"atts"', b"9" * 5000, 1)
        case _:
            pass
    return path, raw


def odd(r: random.Random) -> Any:
    return r.choice(ODD)(r)


KNOWN = [*ChatRequest.model_fields, *CompletionRequest.model_fields, *AttsOptions.model_fields]


async def post(http: httpx.AsyncClient, path: str, raw: bytes, **headers: str) -> httpx.Response:
    headers = {"content-type": "application/json"} | headers
    return await http.post(path, content=raw, headers=headers)


@pytest.mark.parametrize("part", range(8))
async def test_every_broken_body_gets_an_error_that_says_what_is_wrong(part: int) -> None:
    r = random.Random(part)
    statuses = []
    async with client(backend(method={"candidates": 2, "turns": 2})) as http:
        for number in range(BODIES // 8):
            path, raw = broken(r)
            key = {"idempotency-key": f"{part}-{number}"} if number % 2 else {}
            response = await post(http, path, raw, **key)
            statuses.append(response.status_code)
            shown = (part, number, raw[:500], response.text[:500])
            if not is_strict(raw):
                assert response.status_code in (400, 413), shown
            if response.headers["content-type"].startswith("text/event-stream"):
                assert response.status_code == 200, shown
                continue
            reply = response.json()
            if response.status_code == 200:
                assert reply["choices"], shown
                continue
            assert response.status_code in (400, 404, 413), shown
            error = reply["error"]
            assert set(error) == {"message", "type", "param", "code"}, shown
            assert error["type"] == "invalid_request_error", shown
            assert len(error["message"]) < 2000, shown
            if is_an_object(raw):
                assert error["param"], shown
    assert 400 in statuses
    assert 200 in statuses  # some changes ask for nothing wrong


def is_strict(raw: bytes) -> bool:
    """Whether the body is JSON that every reader reads alike."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key that stands twice")
        return dict(pairs)

    def never(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(raw, object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError):
        return False
    return True


def is_an_object(raw: bytes) -> bool:
    """Whether the body is what JSON calls an object: only then a field can be named."""
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


@pytest.mark.parametrize("name", sorted(AttsOptions.model_fields))
async def test_a_misspelt_option_is_refused_with_the_right_name(name: str) -> None:
    wrong = name[:-2] + name[-1] + name[-2] if name[-1] != name[-2] else name + "x"
    asked = CHAT | {"atts": {wrong: 1}}
    async with client(backend()) as http:
        error = (await post(http, "/v1/chat/completions", json.dumps(asked).encode())).json()
    assert error["error"]["param"] == f"atts.{wrong}"
    assert f"did you mean {name!r}?" in error["error"]["message"]
