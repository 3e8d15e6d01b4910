"""One line a request: its parts add up, its id is everywhere, and no word of a prompt is in it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from atts_core.engine import Line
from atts_core.errors import BadInput, EngineUnavailable
from services import logs
from services.local import LocalBackend
from services.request_log import RequestLog
from services.settings import LogSettings
from services.watching import LONGEST_ID
from tests.services.conftest import ANSWER, backend, client

CHAT = "/v1/chat/completions"
SECRET = "swordfish"
ASKED = {"model": "atts", "messages": [{"role": "user", "content": f"{SECRET}: 1+1?"}]}
METHOD = {"candidates": 4, "turns": 8, "takeover_rate": 0.4, "consensus": False, "seed": 3}


class Logged:
    """A backend whose requests are logged into a file, as a replica does."""

    def __init__(self, folder: Path, *engines: Any, prompts: bool = False, **settings: Any) -> None:
        self.path = folder / "log.jsonl"
        self.backend: LocalBackend = backend(*engines, **{"method": METHOD} | settings)
        self.backend.watchers.append(RequestLog(LogSettings(prompts=prompts)))
        self.handler = logs.install(logging.FileHandler(self.path), replica="here")

    def lines(self) -> list[dict[str, Any]]:
        """All lines so far; nothing is logged after that."""
        logging.getLogger(logs.OURS).removeHandler(self.handler)
        self.handler.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["message"] == "request"]


@pytest.fixture(autouse=True)
def no_handler_stays() -> Iterator[None]:
    ours = logging.getLogger(logs.OURS)
    before, level = list(ours.handlers), ours.level
    yield
    ours.handlers, ours.level = before, level


def drafts(seen: str, request: Any) -> Line:
    """Three steps, each of which says what it was asked, then the answer."""
    return Line(ANSWER if seen.count("step") >= 3 else f"step {SECRET} ", ticks=20)


def busy(folder: Path, **settings: Any) -> Logged:
    return Logged(folder, drafts, drafts, lambda text: 1.0 + len(text) / 7, **settings)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_has_one_line_whose_stages_add_up_to_its_seconds(
    tmp_path: Path, stream: bool
) -> None:
    one = busy(tmp_path)
    async with client(one.backend) as asking:
        sent = {"x-request-id": "mine-7"}
        reply = await asking.post(CHAT, json=ASKED | {"stream": stream}, headers=sent)
        assert reply.status_code == 200
    (line,) = one.requests()
    assert line["request_id"] == "mine-7"
    assert line["run"] == reply.headers["x-atts-run"]
    assert (line["route"], line["status"], line["error"]) == (CHAT, 200, None)
    assert (line["policy"], line["stopped"], line["replica"]) == ("atts", "all", "here")
    assert line["candidates"] == {"started": 4, "answered": 4}
    assert sum(line["stages"].values()) == pytest.approx(line["seconds"], rel=0.001)
    assert 0 < line["stages"]["draft"] < line["run_seconds"] <= line["seconds"]
    assert 0 < line["first_byte_seconds"] <= line["seconds"]


async def test_the_line_tells_what_the_response_tells(tmp_path: Path) -> None:
    one = busy(tmp_path)
    async with client(one.backend) as asking:
        told = (await asking.post(CHAT, json=ASKED)).json()["atts"]
    (line,) = one.requests()
    for name in ("decisions", "rejected", "takeovers"):
        assert line[name] == told["takeover_rate"][name]
    for role in ("draft", "target"):
        for kind in ("generated", "scored", "prompt", "cached"):
            assert line["tokens"][role][kind] == told["tokens"][role][kind]


async def test_no_log_holds_a_word_of_a_prompt_or_an_answer(tmp_path: Path) -> None:
    def breaks(seen: str, request: Any) -> str:
        raise EngineUnavailable("the draft is away")

    good, bad = busy(tmp_path), backend(breaks)
    bad.watchers.append(RequestLog(LogSettings()))
    for one in (good.backend, bad):
        async with client(one) as asking:
            await asking.post(CHAT, json=ASKED)
            await asking.post(CHAT, json=ASKED | {"stream": True})
            await asking.post(CHAT, json=ASKED | {"temperature": SECRET})
            await asking.post(CHAT, json=ASKED | {SECRET: 1})
            await asking.post(CHAT, content=f"{{{SECRET}")
            await asking.get(f"/{SECRET}?{SECRET}={SECRET}", headers={SECRET: SECRET})
    assert len(good.requests()) == 12
    text = good.path.read_text()
    assert SECRET not in text
    assert "boxed" not in text


async def test_prompts_are_there_where_they_are_asked_for(tmp_path: Path) -> None:
    one = busy(tmp_path, prompts=True)
    async with client(one.backend) as asking:
        await asking.post(CHAT, json=ASKED)
    (line,) = one.requests()
    assert line["messages"] == ASKED["messages"]
    assert r"\boxed{2}" in line["answer"]


async def test_a_request_that_fails_says_how(tmp_path: Path) -> None:
    def breaks(seen: str, request: Any) -> str:
        raise EngineUnavailable("the draft is away")

    one = Logged(tmp_path, breaks)
    async with client(one.backend) as asking:
        await asking.post(CHAT, json=ASKED)
        await asking.post(CHAT, json={"messages": []})
        await asking.get("/v1/atts/runs/none")
    failed, refused, unknown = one.requests()
    assert (failed["status"], failed["error"], failed["level"]) == (
        503,
        "engines_failed",
        "WARNING",
    )
    assert failed["stopped"] == "failed"
    assert failed["candidates"] == {"started": 4, "failed": 4}
    assert (refused["status"], refused["error"]) == (400, "invalid_value")
    assert (unknown["route"], unknown["error"]) == ("/v1/atts/runs/{run_id}", "run_not_found")
    assert refused["run"] is None


async def test_keys_are_told_by_name(tmp_path: Path) -> None:
    from services.access import hashed

    keys = {"keys": [{"name": "ada", "sha256": hashed("one")}]}
    one = Logged(tmp_path, access=keys)
    async with client(one.backend) as asking:
        await asking.post(CHAT, json=ASKED, headers={"authorization": "Bearer one"})
        await asking.post(CHAT, json=ASKED, headers={"authorization": "Bearer two"})
    known, stranger = one.requests()
    assert (known["key"], known["status"]) == ("ada", 200)
    assert (stranger["key"], stranger["error"]) == (None, "invalid_api_key")


async def test_a_client_that_leaves_has_a_line_with_what_its_run_cost(
    tmp_path: Path, listening: Callable[[LocalBackend], AbstractAsyncContextManager[str]]
) -> None:
    one = Logged(tmp_path, lambda seen, request: Line("step ", ticks=500), method={"turns": 64})
    async with listening(one.backend) as url, httpx.AsyncClient(base_url=url) as asking:
        running = one.backend.service.running
        async with asking.stream("POST", CHAT, json=ASKED | {"stream": True}) as reply:
            chunks = reply.aiter_bytes()  # held: it ends the request when it is gone
            await anext(chunks)
            while not any(usage.draft.generated for usage in running.values()):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while running:
                await asyncio.sleep(0.01)
    (line,) = one.requests()
    assert line["client_left"]
    assert line["stopped"] == "cancelled"
    assert line["tokens"]["draft"]["generated"] > 0


async def test_what_is_asked_all_the_time_has_no_line_while_it_works(tmp_path: Path) -> None:
    one = Logged(tmp_path)
    async with client(one.backend) as asking:
        for path in ("/health", "/ready", "/", "/web/app.js"):
            assert (await asking.get(path)).status_code == 200
        await asking.post("/health")
    assert [(line["route"], line["status"]) for line in one.requests()] == [("/health", 405)]


async def test_what_our_modules_say_carries_the_id_of_its_request(tmp_path: Path) -> None:
    def says(seen: str, request: Any) -> str:
        logging.getLogger("services.engines").warning("odd")
        return ANSWER

    one = Logged(tmp_path, says, method={"candidates": 1})
    async with client(one.backend) as asking:
        await asking.post(CHAT, json=ASKED, headers={"x-request-id": "r" * 500})
    assert {line["request_id"] for line in one.lines()} == {"r" * 128}


class Slow(logging.Handler):
    """A disk that does not come back."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = asyncio.Event()

    def handle(self, record: logging.LogRecord) -> bool:
        import time

        time.sleep(3600)
        return True


def test_a_disk_that_hangs_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING", 10)
    handler = logs.install(Slow())
    for _ in range(100):
        logging.getLogger("services.x").warning("said")
    assert handler.dropped >= 89
    logging.getLogger(logs.OURS).removeHandler(handler)


class Back(logging.Handler):
    """A disk that hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.lines: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        assert self.free.wait(30)
        self.lines.append(record.getMessage())
        return True


def test_how_many_lines_are_missing_is_told_once_the_disk_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "WAITING", 10)
    disk = Back()
    handler = logs.install(disk)
    for _ in range(100):
        logging.getLogger("services.x").warning("said")
    disk.free.set()
    logging.getLogger(logs.OURS).removeHandler(handler)
    handler.close()
    said = [json.loads(line) for line in disk.lines]
    (told,) = [line for line in said if "are missing here" in line["message"]]
    assert (told["level"], told["logger"]) == ("WARNING", "services.logs")
    missing = int(told["message"].split()[0])
    assert missing == handler.dropped == 100 - (len(said) - 1)


def test_a_request_id_from_a_handle_call_is_cut_like_the_router_s() -> None:
    from ray.serve.context import _RequestContext, _serve_request_context

    token = _serve_request_context.set(_RequestContext(request_id="x" * 5_000))
    try:
        assert logs.current_request_id() == "x" * LONGEST_ID
    finally:
        _serve_request_context.reset(token)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput):
        logs.write_logs(LogSettings(folder=tmp_path / "file"), "Router", "r")


def test_a_replica_keeps_so_many_files_of_such_a_size(tmp_path: Path) -> None:
    path = logs.write_logs(LogSettings(folder=tmp_path, max_bytes=10_000, files=3), "Router", "r")
    for number in range(600):
        logging.getLogger("services.x").warning("line %s %s", number, "x" * 100)
    (handler,) = [h for h in logging.getLogger(logs.OURS).handlers if isinstance(h, logs.Queued)]
    logging.getLogger(logs.OURS).removeHandler(handler)
    handler.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [path.name, f"{path.name}.1", f"{path.name}.2"]
    assert all(file.stat().st_size <= 10_000 for file in files)
