"""An engine in a process of its own is the engine, and its end is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from atts_core.engine import Generate, Rate, Ready, Sampling
from atts_core.errors import BadInput, EngineError, EngineUnavailable
from atts_core.types import History, Message, as_ids
from services.engines.own_process import ProcessEngine, own_process
from services.engines.settings import TransformersSettings
from services.engines.transformers_engine import TransformersEngine

QUESTION = (Message("user", "Start with 47. Add 38. What is the result?"),)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def settings(folder: Callable[..., Path]) -> TransformersSettings:
    return TransformersSettings(model=str(folder()), threads=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apart(settings: TransformersSettings) -> AsyncIterator[ProcessEngine]:
    async with own_process(settings) as engine:
        yield engine


def asking(history: History, tokens: int = 24, chain: str = "c") -> Generate:
    return Generate(chain, history, tokens, Sampling(0.8), seed=1)


async def under_way(engine: ProcessEngine, requests: int) -> None:
    """Wait until the engine has so many requests."""
    async with asyncio.timeout(60):
        while (await engine.told())["running"] != requests:
            pass


async def test_it_writes_and_rates_what_the_engine_does_here(
    apart: ProcessEngine, settings: TransformersSettings
) -> None:
    near = TransformersEngine.load(settings)
    try:
        assert apart.capabilities == near.capabilities
        found = []
        for engine in (apart, near):
            prompt = await engine.render(QUESTION)
            segment = engine.generate(asking(History(prompt)))
            scored = await engine.score(Rate("c", History(prompt)), segment)
            found.append(((await segment).text, scored.ids.tolist(), scored.logprobs.tolist()))
        assert found[0] == found[1]
    finally:
        near.close()


async def test_a_cancelled_request_leaves_the_engine_and_its_cost_is_told(
    apart: ProcessEngine,
) -> None:
    prompt = await apart.render(QUESTION)
    before = await apart.told()
    long = apart.generate(asking(History(prompt), 400, chain="long"))
    await under_way(apart, 1)
    long.cancel()
    await under_way(apart, 0)
    with pytest.raises(asyncio.CancelledError):
        await long
    cost = await apart.abort({"long": 0})
    after = await apart.told()
    assert cost.prompt_tokens == len(prompt)
    assert cost.written_tokens == after["aborted_tokens"] - before["aborted_tokens"]
    assert after["cpu_seconds"] > before["cpu_seconds"]


async def test_an_answer_that_came_over_and_was_not_taken_is_told(apart: ProcessEngine) -> None:
    prompt = await apart.render(QUESTION)
    before = await apart.told()
    await apart.generate(asking(History(prompt), chain="cut"))
    taken = await apart.told()
    left = apart.generate(asking(History(prompt), chain="cut"))
    assert isinstance(left, asyncio.Task)
    await asyncio.wait([left])
    cost = await apart.abort({"cut": 1})
    after = await apart.told()
    assert taken["written_tokens"] > before["written_tokens"]
    assert 0 < cost.written_tokens == after["written_tokens"] - taken["written_tokens"]
    assert cost.prompt_tokens == after["prompt_tokens"] - taken["prompt_tokens"]


async def test_an_error_crosses_as_it_is(apart: ProcessEngine) -> None:
    with pytest.raises(EngineError, match="c: the history is empty"):
        await apart.generate(asking(History(as_ids([]))))
    with pytest.raises(BadInput, match="refuses messages of the roles tool: no tools here"):
        await apart.render([Message("tool", "x")])  # type: ignore[arg-type]


async def test_a_draft_that_failed_fails_its_score(apart: ProcessEngine) -> None:
    prompt = await apart.render(QUESTION)
    segment = apart.generate(asking(History(as_ids([]))))
    with pytest.raises(EngineError, match="the history is empty"):
        await apart.score(Rate("c", History(prompt)), segment)


async def test_a_model_that_cannot_be_loaded_is_refused_as_here(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=str(tmp_path)):
        async with own_process(TransformersSettings(model=str(tmp_path))):
            pass


async def test_where_its_process_dies_all_that_is_asked_fails(
    settings: TransformersSettings,
) -> None:
    async with own_process(settings) as engine:
        prompt = await engine.render(QUESTION)
        segment = await engine.generate(asking(History(prompt)))
        long = engine.generate(asking(History(prompt), 400))
        await under_way(engine, 1)
        (process,) = children(os.getpid())
        process.send_signal(signal.SIGKILL)
        with pytest.raises(EngineUnavailable, match="the engine's process has ended"):
            await long
        with pytest.raises(EngineUnavailable):
            await engine.score(Rate("c", History(prompt)), Ready(segment))
        assert (await engine.abort({"c": 0})).written_tokens == 0


async def test_it_ends_with_who_opened_it(settings: TransformersSettings) -> None:
    opens = (
        "import asyncio, sys\n"
        "from services.engines.own_process import own_process\n"
        "from services.engines.settings import TransformersSettings\n"
        "async def main():\n"
        "    async with own_process(TransformersSettings(model=sys.argv[1], threads=1)):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    opener = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", opens, settings.model), stdout=asyncio.subprocess.PIPE
    )
    assert opener.stdout is not None
    assert await opener.stdout.readline() == b"open\n"
    (engine,) = children(opener.pid)
    opener.kill()
    await opener.wait()
    await asyncio.to_thread(engine.wait, 30)  # raises TimeoutExpired where it lives on


def children(of: int) -> list[psutil.Process]:
    """The engines' processes that the process `of` has started and that are not the fixture's."""
    found = psutil.Process(of).children()
    return [one for one in found if "services.engines.engine_process" in one.cmdline()][-1:]
