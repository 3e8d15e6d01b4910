"""HTTP requests on the board: by route template and status, and the time to their first byte."""

from __future__ import annotations

from typing import Any

from atts_core.engine import Line
from services.watching import UNROUTED
from tests.services.conftest import ANSWER, client
from tests.services.metrics.test_metrics import Measured

CHAT = "/v1/chat/completions"
ASKED = {"model": "atts", "messages": [{"role": "user", "content": "1+1?"}]}


def http(one: Measured, **labels: str) -> float:
    one.board.hand_on()
    return one.total("http_requests_total", **labels)


async def test_requests_are_counted_by_route_template_and_status() -> None:
    one = Measured()
    async with client(one.backend) as asking:
        assert (await asking.post(CHAT, json=ASKED)).status_code == 200
        assert (await asking.post(CHAT, json={"messages": []})).status_code == 400
        for run in ("a", "b", "c"):
            assert (await asking.get(f"/v1/atts/runs/{run}")).status_code == 404
        await asking.post("/health")
    assert http(one, route=CHAT, status="200") == 1
    assert http(one, route=CHAT, status="400") == 1
    assert http(one, route="/v1/atts/runs/{run_id}", status="404") == 3
    assert http(one, route="/health", status="405") == 1
    assert http(one) == 6


async def test_what_clients_make_up_is_one_route() -> None:
    one = Measured()
    async with client(one.backend) as asking:
        for path in ("/nope", "/v1/../x", "/%00", "/wp-login.php", "/v1/chat/completions/1"):
            await asking.get(path)
    assert http(one, route=UNROUTED, status="404") == http(one) == 5


async def test_a_wrong_key_is_counted_without_a_route() -> None:
    one = Measured(access={"keys": [{"name": "me", "sha256": "0" * 64}]})
    async with client(one.backend) as asking:
        await asking.post(CHAT, json=ASKED, headers={"authorization": "Bearer no"})
    assert http(one, route=UNROUTED, status="401") == http(one) == 1


async def test_the_first_byte_of_a_stream_comes_before_its_last() -> None:
    def writes(seen: str, request: Any) -> Line:
        return Line(ANSWER if seen.count("step") >= 3 else "step ", ticks=200)

    one = Measured(writes, writes, method={"candidates": 1, "turns": 8})
    async with client(one.backend) as asking:
        reply = await asking.post(CHAT, json=ASKED | {"stream": True})
    assert "[DONE]" in reply.text
    one.board.hand_on()
    first = one.total("time_to_first_byte_sum_seconds_total", route=CHAT)
    whole = one.total("http_request_seconds_total", route=CHAT)
    assert 0 < first < whole
    assert one.total("first_bytes_total") == one.total("time_to_first_byte_seconds_count") == 1
    assert one.total("time_to_first_byte_seconds_sum") == first
