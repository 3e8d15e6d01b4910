"""Bodies that lenient readers of JSON read in different ways are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.json_body import Unreadable, parsed
from tests.services.conftest import backend, client


@pytest.mark.parametrize(
    "raw", [b'{"a": {"b": [1, 2.5, null, true, "x"]}}', b"[]", b"5", b'"\\ud800"', b"1e999"]
)
def test_what_every_reader_reads_alike_is_read_as_it_is(raw: bytes) -> None:
    assert parsed(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "field", "says"),
    [
        (b'{"a": 1, "a": 1}', "a", "stands twice"),
        (b'{"b": [0, {"a": 1, "c": 2, "a": 3}]}', "b.1.a", "stands twice"),
        (b'{"b": {"a": 1, "a": 2}, "b": 3}', "b", "stands twice"),
        (b'{"metadata": {"x": [1, NaN]}}', "metadata.x.1", "found nan"),
        (b'{"x": -Infinity}', "x", "found -inf"),
        (b"NaN", None, "the body: found nan"),
        (b'{"\\ud800": NaN}', "\\ud800", "found nan"),
        (b'{"' + b"k" * 5000 + b'": NaN}', "k" * 200, "found nan"),
        (b"[" * 200_000, None, "too deep"),
        (b'{"a":' * 150_000 + b"1", None, "too deep"),
        (b"9" * 5000, None, "too many digits"),
        (b'"\xff"', None, "not in UTF-8"),
    ],
)
def test_what_is_odd_is_named(raw: bytes, field: str | None, says: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parsed(raw)
    assert caught.value.field == field
    assert says in caught.value.detail


def test_no_json_is_told_apart() -> None:
    with pytest.raises(json.JSONDecodeError):
        parsed(b'{"a": ')


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("more", "param"),
    [
        ('"seed": 1, "seed": 2', "seed"),
        ('"atts": {"candidates": 2, "candidates": 3}', "atts.candidates"),
        ('"metadata": {"x": NaN}', "metadata.x"),
    ],
)
async def test_an_odd_body_is_refused_in_openai_s_shape(path: str, more: str, param: str) -> None:
    asked: dict[str, Any] = {"model": "atts", "prompt": "1 + 1?"}
    if "chat" in path:
        asked = {"model": "atts", "messages": [{"role": "user", "content": "1 + 1?"}]}
    raw = (json.dumps(asked)[:-1] + f", {more}}}").encode()
    async with client(backend()) as http:
        json_body = {"content-type": "application/json"}
        response = await http.post(path, content=raw, headers=json_body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
