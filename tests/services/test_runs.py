"""Runs by their id over HTTP, at one router and at two that share a store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from atts_core.engine import Generate, Line
from atts_core.errors import AttsError, EngineUnavailable
from atts_core.types import Message
from services.access import hashed
from services.http_errors import Relayed
from services.local import LocalBackend
from services.run_store import RunStore
from services.runs import registry
from services.settings import RunSettings
from services.store.database import MEMORY, open_database
from tests.services.conftest import ANSWER, backend

PATH = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is 1 + 1?"}]
MESSAGES = (Message("user", "What is 1 + 1?"),)
KEY = {"Idempotency-Key": "k"}

Writes = Callable[[str, Generate], Line | str]


def body(**fields: Any) -> dict[str, Any]:
    atts = {"candidates": 3, "seed": 1, "takeover_rate": 1e-6}
    return {"model": "atts", "messages": QUESTION, "atts": atts} | fields


def streamed(**fields: Any) -> dict[str, Any]:
    return body(stream=True, **fields) | {"atts": body()["atts"] | {"events": True}}


def endless(seen: str, request: Generate) -> Line | str:
    """Two segments, then one that takes for ever."""
    written = seen.partition("<assistant>")[2].count("\n\n")
    return "more\n\n" if written < 2 else Line("hm", ticks=10**9)


class Switch:
    """An archive that can be out of reach."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.away = False
        self.uploads = 0

    def __getattr__(self, verb: str) -> Any:
        async def call(*arguments: Any) -> Any:
            if self.away:
                raise AttsError("store: the replica was lost with the request")
            self.uploads += verb == "upload"
            return await getattr(self._store, verb)(*arguments)

        return call


@pytest.fixture
async def archive() -> AsyncIterator[Switch]:
    database = open_database(MEMORY)
    with ThreadPoolExecutor(1) as thread:
        yield Switch(RunStore(database, thread, RunSettings()))
    database.close()


class Routers:
    """Several routers that share an archive, each with an application and engines of its own."""

    def __init__(self, backends: list[LocalBackend], clients: list[httpx.AsyncClient]) -> None:
        self.backends, self.clients = backends, clients

    @property
    def working(self) -> int:
        """Requests in all engines, and runs at all routers."""
        return sum(
            len(b.service.draft.running) + len(b.service.target.running) + len(b.service.running)
            for b in self.backends
        )

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    async def begun(self) -> str:
        """The id of the one run that goes on, once its engines work."""
        await self.until(lambda: self.working > 1)
        (run_id,) = (run_id for b in self.backends for run_id in b.service.running)
        return run_id

    async def idle(self) -> None:
        """Within a second nothing is left of any run, in routers and engines."""
        await self.until(lambda: not self.working, 1)

    def asked(self) -> list[int]:
        """How many segments each router's draft wrote."""
        return [len(b.service.draft.generated) for b in self.backends]


@pytest.fixture
def routers(listening: Any, archive: Switch) -> Any:
    @asynccontextmanager
    async def start(draft: Writes = lambda seen, request: ANSWER, **settings: Any) -> Any:
        async with AsyncExitStack() as stack:
            backends = [backend(draft, archive=archive, **settings) for _ in range(2)]
            urls = [await stack.enter_async_context(listening(b)) for b in backends]
            clients = [httpx.AsyncClient(base_url=url, timeout=30) for url in urls]
            for client in clients:
                await stack.enter_async_context(client)
            yield Routers(backends, clients)

    return start


async def history(http: httpx.AsyncClient, run_id: str, limit: int = 7) -> dict[str, Any]:
    """The whole of a run, read page by page as a client follows it, to its end."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        while True:
            url = f"/v1/atts/runs/{run_id}?after={len(events)}&limit={limit}"
            response = await http.get(url)
            page: dict[str, Any] = response.json()
            assert response.status_code == 200, page
            events += page["events"]
            assert page["next"] == len(events)
            if page["status"] != "running" and not page["more"]:
                return page | {"events": events}
            if not page["more"]:
                await asyncio.sleep(0.05)


def chunks_of(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(x.removeprefix("data: ")) for x in lines if x != "data: [DONE]"]


def events_of(text: str) -> list[Any]:
    return [c["atts"] for c in chunks_of(text) if not c.get("choices", True) and "atts" in c]


# ------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("reader", [0, 1])
async def test_a_run_is_told_at_any_router_as_it_was_streamed(routers: Any, reader: int) -> None:
    async with routers() as running:
        response = await running.clients[0].post(PATH, json=streamed())
        run_id = response.headers["x-atts-run"]
        await running.until(lambda: not running.backends[0].runs._here)
        run = await history(running.clients[reader], run_id)
    assert run["events"] == events_of(response.text)
    assert [run["events"][at]["event"] for at in (0, -1)] == ["RunStarted", "AnswerReady"]
    assert (run["id"], run["status"], run["model"], run["seed"]) == (run_id, "finished", "atts", 1)
    assert run["method"]["candidates"] == 3
    assert run["reply"]["choices"][0]["message"]["content"] == r"The result is \boxed{2}."
    assert run["reply"]["id"] == run_id
    assert run["ended"] >= run["created"]
    assert "What is 1 + 1?" not in json.dumps(run)


async def test_a_plain_reply_is_the_one_that_is_kept(routers: Any) -> None:
    async with routers() as running:
        response = await running.clients[0].post(PATH, json=body())
        run = await history(running.clients[1], response.headers["x-atts-run"])
    assert run["reply"] == response.json()
    assert response.json()["id"] == response.headers["x-atts-run"]


async def test_a_live_run_is_followed_from_another_router_to_its_end(routers: Any) -> None:
    """Nothing is missing, nothing comes twice, although it is read while it grows."""
    slow = 15

    def draft(seen: str, request: Generate) -> Line | str:
        done = seen.partition("<assistant>")[2].count("\n\n")
        return ANSWER if done >= slow else Line("more\n\n", ticks=200)

    atts = body()["atts"] | {"turns": 60, "events": True}
    async with routers(draft, runs={"refresh_seconds": 0.02}) as running:
        asking = asyncio.create_task(
            running.clients[0].post(PATH, json=body(stream=True, atts=atts))
        )
        run_id = await running.begun()
        await running.until(lambda: len(running.backends[0].runs._here[run_id].events) > 20)
        run = await history(running.clients[1], run_id, limit=3)
        streamed_events = events_of((await asking).text)
    assert run["events"] == streamed_events
    assert len(run["events"]) > 3 * slow


async def test_an_unknown_run_is_not_found_in_openai_s_shape(routers: Any) -> None:
    async with routers() as running:
        for call in (
            running.clients[0].get("/v1/atts/runs/nothing"),
            running.clients[0].get("/v1/atts/runs/%00"),
            running.clients[0].post("/v1/atts/runs/nothing/cancel"),
        ):
            response = await call
            error = response.json()["error"]
            assert response.status_code == 404
            assert (error["code"], error["param"]) == ("run_not_found", "id")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=1000000", f"after={2**70}"])
async def test_a_bad_page_is_refused_by_name(routers: Any, query: str) -> None:
    async with routers() as running:
        response = await running.clients[0].get(f"/v1/atts/runs/x?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.partition("=")[0]


async def test_a_run_is_there_for_the_key_alone_that_asked(routers: Any) -> None:
    keys = [{"name": name, "sha256": hashed(name)} for name in ("ann", "ben")]
    ann, ben = ({"Authorization": f"Bearer {name}"} for name in ("ann", "ben"))
    async with routers(access={"keys": keys}) as running:
        response = await running.clients[0].post(PATH, json=body(), headers=ann)
        path = f"/v1/atts/runs/{response.headers['x-atts-run']}"
        for http in running.clients:
            assert (await http.get(path, headers=ann)).status_code == 200
            assert (await http.get(path, headers=ben)).status_code == 404
            assert (await http.post(f"{path}/cancel", headers=ben)).status_code == 404


async def test_one_router_alone_tells_its_runs_too(listening: Any) -> None:
    alone = backend()
    async with listening(alone) as url, httpx.AsyncClient(base_url=url) as http:
        response = await http.post(PATH, json=body())
        run = await history(http, response.headers["x-atts-run"])
        assert (await http.get("/v1/atts/runs/other")).status_code == 404
    assert run["status"] == "finished"


async def test_runs_refused_at_the_door_leave_no_trace(routers: Any, archive: Switch) -> None:
    async with routers(limits={"max_running": 1}) as running:
        backend = running.backends[0]
        backend.service.running["full"] = None
        assert (await running.clients[0].post(PATH, json=body())).status_code == 429
        assert not backend.runs._here
        assert not backend.runs._carrier._runs


async def test_runs_with_a_key_that_find_no_room_leave_no_trace_and_free_their_keys(
    routers: Any, archive: Switch
) -> None:
    kept = {"max_runs": 1, "refresh_seconds": 0.02}
    async with routers(limits={"max_running": 1}, runs=kept) as running:
        answered = await running.clients[0].post(PATH, json=body())
        backend = running.backends[0]
        await running.until(lambda: not backend.runs._here)
        backend.service.running["full"] = None
        keys = [{"Idempotency-Key": f"key-{number}"} for number in range(30)]
        refused = [await running.clients[0].post(PATH, json=body(), headers=key) for key in keys]
        assert {response.status_code for response in refused} == {429}
        assert all("retry-after" in response.headers for response in refused)
        await running.until(lambda: not backend.runs._here and not backend.runs._carrier._runs)
        # As many have ended as are pruned after, and the one that was answered is still there.
        run = await history(running.clients[1], answered.headers["x-atts-run"])
        assert run["status"] == "finished"
        del backend.service.running["full"]
        again = await running.clients[1].post(PATH, json=body(), headers=keys[0])
        assert again.status_code == 200


async def test_who_joins_a_run_elsewhere_that_finds_no_room_may_come_again(
    routers: Any,
) -> None:
    async with routers(limits={"max_running": 1}) as running:
        running.backends[0].service.running["full"] = None
        both = await asyncio.gather(
            *(running.clients[at].post(PATH, json=body(), headers=KEY) for at in (0, 1))
        )
    assert both[0].status_code == 429
    assert both[1].status_code in (200, 429)  # it may have come first, and run there


async def test_a_router_alone_keeps_a_bounded_number_of_runs(
    listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "RUNS_HERE", 3)
    alone = backend()
    async with listening(alone) as url, httpx.AsyncClient(base_url=url) as http:
        ids = [(await http.post(PATH, json=body())).headers["x-atts-run"] for _ in range(5)]
        found = [(await http.get(f"/v1/atts/runs/{run_id}")).status_code for run_id in ids]
    assert found == [404, 404, 200, 200, 200]


async def test_without_history_nothing_that_a_model_wrote_is_kept(
    routers: Any, archive: Switch
) -> None:
    async with routers(runs={"history": False}) as running:
        response = await running.clients[0].post(PATH, json=body())
        for http in running.clients:
            run = await history(http, response.headers["x-atts-run"])
            assert (run["status"], run["events"], run["reply"]) == ("finished", [], None)
    page = await archive.read(run["id"], "", 0, 100)
    assert (page.events, page.ending.reply) == ([], None)


# ---------------------------------------------------------------------------------- cancelling


@pytest.mark.parametrize("settings", [{}, {"runs": {"history": False}}])
@pytest.mark.parametrize("at", [0, 1])
async def test_a_plain_request_s_run_is_cancelled_from_any_router(
    routers: Any, at: int, settings: dict[str, Any]
) -> None:
    async with routers(endless, **settings) as running:
        asking = asyncio.create_task(running.clients[0].post(PATH, json=body()))
        run_id = await running.begun()
        cancelled = await running.clients[at].post(f"/v1/atts/runs/{run_id}/cancel")
        await running.idle()
        response = await asking
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert (response.status_code, response.headers["x-should-retry"]) == (409, "false")
        assert response.json()["error"]["code"] == "run_cancelled"
        run = await history(running.clients[at], run_id)
    assert run["error"]["code"] == "run_cancelled"


@pytest.mark.parametrize("at", [0, 1])
async def test_a_stream_s_run_that_is_cancelled_says_so_and_is_not_done(
    routers: Any, at: int
) -> None:
    async with routers(endless) as running:
        asking = asyncio.create_task(running.clients[0].post(PATH, json=streamed()))
        run_id = await running.begun()
        await running.clients[at].post(f"/v1/atts/runs/{run_id}/cancel")
        await running.idle()
        text = (await asking).text
        run = await history(running.clients[1 - at], run_id)
    assert "[DONE]" not in text
    assert chunks_of(text)[-1]["error"]["code"] == "run_cancelled"
    assert run["status"] == "cancelled"
    assert [e["ending"] for e in run["events"] if "ending" in e] == ["cancelled"] * 3


@pytest.mark.parametrize("at", [0, 1])
async def test_cancelling_a_run_that_has_ended_says_how_it_ended(routers: Any, at: int) -> None:
    async with routers() as running:
        response = await running.clients[0].post(PATH, json=body())
        await running.until(lambda: not running.backends[0].runs._here)
        path = f"/v1/atts/runs/{response.headers['x-atts-run']}/cancel"
        late = await running.clients[at].post(path)
    assert (late.status_code, late.json()["status"]) == (200, "finished")
    assert late.json()["reply"] == response.json()


async def test_two_cancels_at_once_both_see_the_end(routers: Any) -> None:
    async with routers(endless) as running:
        asking = asyncio.create_task(running.clients[0].post(PATH, json=body()))
        path = f"/v1/atts/runs/{await running.begun()}/cancel"
        both = await asyncio.gather(*(running.clients[0].post(path) for _ in range(2)))
        assert (await asking).status_code == 409
    assert [response.json()["status"] for response in both] == ["cancelled"] * 2


# ------------------------------------------------------------------------- idempotency: joining


def alike(first: httpx.Response, second: httpx.Response) -> bool:
    return (first.status_code, first.content, first.headers["x-atts-run"]) == (
        second.status_code,
        second.content,
        second.headers["x-atts-run"],
    )


def slowly(seen: str, request: Generate) -> Line:
    return Line(ANSWER, ticks=2_000)


@pytest.mark.parametrize("other", [0, 1])
async def test_a_request_repeated_meanwhile_waits_for_the_same_run(
    routers: Any, other: int
) -> None:
    async with routers(slowly) as running:
        asking = [
            asyncio.create_task(running.clients[at].post(PATH, json=body(), headers=KEY))
            for at in (0, other, other)
        ]
        first, *again = await asyncio.gather(*asking)
        assert all(alike(first, response) for response in again)
        assert sum(running.asked()) == 3, "the three candidates of one run"


@pytest.mark.parametrize("other", [0, 1])
@pytest.mark.parametrize("wait", [False, True])
async def test_a_request_repeated_afterwards_gets_the_same_reply(
    routers: Any, other: int, wait: bool
) -> None:
    unseeded = body(atts={"candidates": 3})
    async with routers() as running:
        first = await running.clients[0].post(PATH, json=unseeded, headers=KEY)
        if wait:
            await running.until(lambda: not running.backends[0].runs._here)
        again = await running.clients[other].post(PATH, json=unseeded, headers=KEY)
        assert alike(first, again)
        fresh = await running.clients[other].post(PATH, json=unseeded)
        assert fresh.headers["x-atts-run"] != first.headers["x-atts-run"]


@pytest.mark.parametrize("other", [0, 1])
async def test_a_repeated_stream_replays_the_events_so_far_and_goes_on(
    routers: Any, other: int
) -> None:
    def draft(seen: str, request: Generate) -> Line | str:
        done = seen.partition("<assistant>")[2].count("\n\n")
        return "more\n\n" if done < 3 else Line(ANSWER, ticks=3_000)

    async with routers(draft, runs={"refresh_seconds": 0.02}) as running:

        def ask(at: int) -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(running.clients[at].post(PATH, json=streamed(), headers=KEY))

        first = ask(0)
        run_id = await running.begun()
        await running.until(lambda: len(running.backends[0].runs._here[run_id].events) > 20)
        joined = ask(other)
        texts = [(await asking).text for asking in (first, joined)]
        late = (await ask(other)).text
    for text in (*texts, late):
        assert text.endswith("data: [DONE]\n\n")
        assert events_of(text) == events_of(texts[0])
        assert {chunk["id"] for chunk in chunks_of(text)} == {run_id}
        said = [c["delta"].get("content") for x in chunks_of(text) for c in x["choices"]]
        assert [content for content in said if content] == [r"The result is \boxed{2}."]


@pytest.mark.parametrize("other", [0, 1])
async def test_a_key_that_comes_with_another_body_is_refused(routers: Any, other: int) -> None:
    async with routers() as running:
        await running.clients[0].post(PATH, json=body(), headers=KEY)
        response = await running.clients[other].post(PATH, json=body(n=2), headers=KEY)
    error = response.json()["error"]
    assert response.status_code == 422
    assert (error["param"], error["code"]) == ("Idempotency-Key", "idempotency_key_reused")
    assert "same body" in error["message"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_cannot_be_one_is_refused(routers: Any, key: str) -> None:
    async with routers() as running:
        response = await running.clients[0].post(
            PATH, json=body(), headers={"Idempotency-Key": key}
        )
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("odd", ["[" * 300 + "]" * 300, r'"\ud800"'])
async def test_a_request_with_a_key_may_hold_whatever_is_read_past(routers: Any, odd: str) -> None:
    raw = json.dumps(body()).replace("{", f'{{"metadata": {odd}, ', 1).encode()
    headers = KEY | {"Content-Type": "application/json"}
    async with routers() as running:
        both = [await http.post(PATH, content=raw, headers=headers) for http in running.clients]
    assert both[0].status_code == 200
    assert alike(*both)


async def test_the_same_key_of_two_clients_stands_for_two_runs(routers: Any) -> None:
    keys = [{"name": name, "sha256": hashed(name)} for name in ("ann", "ben")]
    async with routers(access={"keys": keys}) as running:
        replies = [
            await http.post(PATH, json=body(), headers=KEY | {"Authorization": f"Bearer {name}"})
            for http, name in zip(running.clients, ("ann", "ben"), strict=True)
        ]
    assert len({response.headers["x-atts-run"] for response in replies}) == 2


# ------------------------------------------------------------------------- idempotency: leaving


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("other", [0, 1])
@pytest.mark.parametrize("leaves", [0, 1])
async def test_a_run_goes_on_until_the_last_client_has_left(
    routers: Any, archive: Switch, stream: bool, other: int, leaves: int
) -> None:
    async with routers(endless, runs={"refresh_seconds": 0.05}) as running:
        asked = streamed() if stream else body()
        tasks = [asyncio.create_task(running.clients[0].post(PATH, json=asked, headers=KEY))]
        run_id = await running.begun()
        tasks.append(
            asyncio.create_task(running.clients[other].post(PATH, json=asked, headers=KEY))
        )
        run = running.backends[0].runs._here[run_id]
        await running.until(lambda: len(run._followers) == 2 or run.followed_elsewhere)
        tasks[leaves].cancel()
        # Several exchanges: more than it takes a run to end that nobody follows.
        seen = archive.uploads
        await running.until(lambda: archive.uploads > seen + 4)
        assert run.ending is None
        assert len(running.backends[0].service.draft.running) == 3
        tasks[1 - leaves].cancel()
        await running.idle()
        ended = await history(running.clients[1], run_id)
        assert (ended["status"], ended["error"]["code"]) == ("cancelled", "client_left")


@pytest.mark.parametrize("at", [0, 1])
async def test_a_run_that_all_clients_left_frees_its_key(routers: Any, at: int) -> None:
    async with routers(endless) as running:
        given_up = asyncio.create_task(running.clients[0].post(PATH, json=body(), headers=KEY))
        before = await running.begun()
        given_up.cancel()
        await running.idle()
        if at == 1:
            await running.until(lambda: not running.backends[0].runs._here)
        asking = asyncio.create_task(running.clients[at].post(PATH, json=body(), headers=KEY))
        assert await running.begun() != before
        asking.cancel()
        await running.idle()


@pytest.mark.parametrize("at", [0, 1])
async def test_a_run_cancelled_by_its_id_is_not_begun_again_by_a_retry(
    routers: Any, at: int
) -> None:
    async with routers(endless) as running:
        asking = asyncio.create_task(running.clients[0].post(PATH, json=body(), headers=KEY))
        run_id = await running.begun()
        await running.clients[0].post(f"/v1/atts/runs/{run_id}/cancel")
        again = await running.clients[at].post(PATH, json=body(), headers=KEY)
        assert (await asking).status_code == again.status_code == 409
        assert not running.working


async def test_a_run_that_failed_is_begun_anew_by_a_retry(routers: Any) -> None:
    broken = True

    def draft(seen: str, request: Generate) -> str:
        if broken:
            raise EngineUnavailable("the replica was lost")
        return ANSWER

    async with routers(draft) as running:
        asked = body(atts={"candidates": 1})
        failed = await running.clients[0].post(PATH, json=asked, headers=KEY)
        assert failed.status_code == 503
        broken = False
        assert (await running.clients[0].post(PATH, json=asked, headers=KEY)).status_code == 200


async def test_a_failure_reaches_those_who_wait_at_another_router_alike(routers: Any) -> None:
    def draft(seen: str, request: Generate) -> Line:
        return Line("x", ticks=10**9)

    async with routers(draft) as running:
        asked = body(messages=[{"role": "user", "content": "x" * 200_000}])
        both = await asyncio.gather(
            *(http.post(PATH, json=asked, headers=KEY) for http in running.clients)
        )
    assert [response.status_code for response in both] == [400, 400]
    assert [response.json()["error"]["param"] for response in both] == ["messages"] * 2


async def test_a_client_that_leaves_while_its_key_is_claimed_leaves_the_key_free(
    archive: Switch,
) -> None:
    claimed, release = asyncio.Event(), asyncio.Event()

    class Slow:
        """An archive whose answer to a claim is late."""

        def __getattr__(self, verb: str) -> Any:
            return getattr(archive, verb)

        async def claim(self, *arguments: Any) -> Any:
            claim = await archive.claim(*arguments)
            claimed.set()
            await release.wait()
            return claim

    one = backend(archive=Slow())
    asked = registry.Caller(key="k", fingerprint="f")

    async def ask() -> Any:
        run = await one.runs.open(asked, "atts", one.settings.method, MESSAGES, lambda outcome: {})
        return await run.join()

    async with one.lifespan():
        gone = asyncio.create_task(ask())
        await claimed.wait()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        release.set()
        assert (await ask()).answer.answer == "2"


# ------------------------------------------------------------------------------ without the store


async def test_while_the_store_is_away_questions_are_answered_and_keys_hold_here(
    routers: Any, archive: Switch
) -> None:
    async with routers() as running:
        archive.away = True
        first = await running.clients[0].post(PATH, json=body(), headers=KEY)
        again = await running.clients[0].post(PATH, json=body(), headers=KEY)
        assert first.status_code == 200
        assert alike(first, again)
        run_id = first.headers["x-atts-run"]
        assert (await history(running.clients[0], run_id))["status"] == "finished"
        elsewhere = await running.clients[1].get(f"/v1/atts/runs/{run_id}")
        error = elsewhere.json()["error"]
        assert (elsewhere.status_code, error["code"]) == (503, "store_unavailable")
        archive.away = False
        await running.until(lambda: not running.backends[0].runs._carrier._runs)
        assert (await history(running.clients[1], run_id))["reply"] == first.json()
        # The store knows the run, but not its key.
        assert alike(first, await running.clients[0].post(PATH, json=body(), headers=KEY))


async def test_a_router_that_ends_hands_over_its_runs(listening: Any, archive: Switch) -> None:
    ending = backend(endless, archive=archive, runs={"refresh_seconds": 10})
    async with ending.lifespan():
        run = await ending.runs.open(
            registry.Caller(), "atts", ending.settings.method, (), lambda outcome: {}
        )
        waiting = asyncio.create_task(run.join())
        while len(run.events) < 20:
            await asyncio.sleep(0)
    assert not ending.service.draft.running
    with pytest.raises(Relayed, match="its router was stopped"):
        await waiting
    page = await archive.read(run.identity.id, "", 0, 10_000)
    assert (page.status, len(page.events)) == ("cancelled", len(run.events))
    assert page.ending.error[1]["error"]["code"] == "server_stopped"
