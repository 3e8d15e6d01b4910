"""The HTTP engine against a real vLLM server, where ATTS_VLLM_PYTHON names a python that has it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from stand_in import TARGET, Brain

from atts_core.engine import Generate, Rate, Sampling, start
from atts_core.errors import BadInput, EngineUnavailable
from atts_core.types import History, Message, Segment
from services.engines.http_engine import HttpEngine
from services.engines.score_memory import ScoreMemory
from services.engines.settings import HttpSettings

PYTHON = os.environ.get("ATTS_VLLM_PYTHON")
QUESTION = (Message("user", "Start with 47. Add 38. Multiply by 3. Subtract 12. Add 100."),)
FLAGS = {
    "completions": ([], False),
    "token endpoint": (["--enable-scale-out"], False),
    "cached tokens told": (["--enable-scale-out", "--enable-prompt-tokens-details"], True),
}
"""How the server is started, and whether scores then read its prefix cache."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PYTHON is None, reason="ATTS_VLLM_PYTHON names no python with vLLM"),
]


@contextmanager
def running_vllm(flags: list[str], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A vLLM server for the embedded target on a free port, once it is ready."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [
        str(PYTHON),
        *("-m", "vllm.entrypoints.openai.api_server", "--model", str(TARGET)),
        *("--served-model-name", "target", "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager", "--block-size", "32", *flags),
    ]
    small = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | small, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, log)
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"vLLM ended: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def brain() -> Brain:
    return Brain()


@pytest.fixture(scope="module", params=FLAGS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, bool]]:
    """The server's URL, and whether its scores read the prefix cache."""
    flags, cached = FLAGS[request.param]
    with running_vllm(flags, tmp_path_factory.mktemp("vllm") / "log") as (url, _):
        yield url, cached


def engine_at(url: str, **other: Any) -> HttpEngine:
    known = {"engine": "http", "url": url, "model": "target", "tokenizer": str(TARGET)}
    engine = HttpEngine.load(HttpSettings(**{**known, **other}))
    engine._remembered = ScoreMemory(kept=0)  # so that the server is asked for every score
    return engine


async def given(segment: Segment) -> Segment:
    return segment


def asking(history: History, seed: int) -> Generate:
    return Generate("c7", history, 24, Sampling(0.4), seed, ("\n\n",))


async def test_scores_are_those_of_a_plain_forward_pass(
    server: tuple[str, bool], brain: Brain
) -> None:
    """A chain to its end; each segment is rated twice, the second time from the cache."""
    url, cached = server
    engine = engine_at(url)
    assert engine.capabilities.scores
    assert engine.capabilities.reuses_prefix == cached
    assert engine.capabilities.max_len == 2047
    chain, finish, hits = await engine.render(QUESTION), "", 0
    for turn in range(12):
        rate = Rate("c7", History(chain))
        drafting = engine.generate(asking(History(chain), turn))
        first = await engine.score(rate, drafting)
        segment = await drafting
        again = await engine.score(rate, start(given(segment)))
        whole = np.concatenate([chain, segment.ids])
        plain = brain.logprobs(whole.tolist())[len(chain) - 1 :]
        assert np.abs(first.logprobs - plain).max() < 1e-4
        assert np.abs(again.logprobs - plain).max() < 1e-4
        hits += again.cost.cached_tokens
        chain, finish = whole, segment.finish
        if finish == "eos":
            break
        assert segment.text.endswith("\n\n") == (finish == "stop")
    assert finish == "eos"
    assert (hits > 0) == cached
    engine.close()


async def test_a_stop_id_ends_a_segment_and_belongs_to_it(
    server: tuple[str, bool], brain: Brain
) -> None:
    engine = engine_at(server[0])
    history = History(await engine.render(QUESTION))
    greedy = Generate("c7", history, 200, Sampling(0.0), 1)
    whole = await engine.generate(greedy)
    assert whole.finish == "eos"
    ids = whole.ids.tolist()
    segment = await engine.generate(replace(greedy, stop_ids=(ids[7],)))
    assert (segment.ids.tolist(), segment.finish) == (ids[: ids.index(ids[7]) + 1], "stop")
    ended = await engine.generate(replace(greedy, stop_ids=(brain.end,)))
    assert (ended.ids.tolist(), ended.finish) == ([*ids, brain.end], "stop")
    engine.close()


async def test_a_seed_writes_the_same_alone_and_in_company(server: tuple[str, bool]) -> None:
    engine = engine_at(server[0])
    history = History(await engine.render(QUESTION))
    seeds = [2**62 + seed for seed in range(6)]
    requests = [Generate("c7", history, 150, Sampling(2.0), seed) for seed in seeds]
    alone = [(await engine.generate(request)).text for request in requests]
    among = await asyncio.gather(*map(engine.generate, requests))
    assert [segment.text for segment in among] == alone
    assert len(set(alone)) > 1  # the model is sure of itself, even this hot
    engine.close()


async def test_a_cancelled_request_leaves_the_server(server: tuple[str, bool]) -> None:
    url, _ = server
    engine = engine_at(url)
    history = History(await engine.render(QUESTION))
    tasks = [engine.generate(Generate("c7", history, 1900, Sampling(2.0), s)) for s in range(8)]
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while await requests_running(client, url) == 0:
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert any(task.cancelled() for task in tasks)
        while await requests_running(client, url) > 0:
            await asyncio.sleep(0.05)
    engine.close()


async def requests_running(client: httpx.AsyncClient, url: str) -> float:
    """What vLLM counts as running, by its metrics."""
    text = (await client.get(f"{url}/metrics")).text
    return sum(float(n) for n in re.findall(r"^vllm:num_requests_running\S* (\S+)", text, re.M))


def test_a_wrong_model_name_is_refused(server: tuple[str, bool]) -> None:
    with pytest.raises(BadInput, match="no model 'tarjet'; it serves: target"):
        engine_at(server[0], model="tarjet")


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running_vllm(["--enable-scale-out"], tmp_path / "log") as found:
        yield found


async def test_a_server_that_dies_with_a_request_is_unavailable(
    doomed: tuple[str, subprocess.Popen[bytes]],
) -> None:
    url, process = doomed
    engine = engine_at(url, retries=1)
    history = History(await engine.render(QUESTION))
    tasks = [engine.generate(Generate("c7", history, 1900, Sampling(2.0), s)) for s in range(8)]
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while await requests_running(client, url) == 0:
            await asyncio.sleep(0.05)
        process.kill()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [one for one in ended if not isinstance(one, Segment)]
    assert failed
    assert all(isinstance(one, EngineUnavailable) for one in failed)
    assert all(f"target at {url}, c7: " in str(one) for one in failed)
    engine.close()
