"""What an engine tells of chains that were cancelled: all that they had cost, and each once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny import quiet

from atts_core.engine import Generate, Pending, Rate, Ready, Sampling
from atts_core.errors import EngineError
from atts_core.types import EngineCost, History, Scored, Segment, as_ids
from services.engines.transformers_engine import TransformersEngine

Opened = Callable[..., TransformersEngine]
WORDS = [int(i) for i in np.random.default_rng(5).integers(5, 200, 60)]
WRITES, RATES = "writes", "rates"


def request(
    engine: TransformersEngine, what: str, chain: str = "cut", tokens: int = 6
) -> Pending[Segment] | Pending[Scored]:
    """Continue 20 words, or rate those that follow."""
    history = History(as_ids(WORDS[:20]))
    if what == WRITES:
        return engine.generate(Generate(chain, history, tokens, Sampling(0.8), seed=3))
    vocabulary = engine.capabilities.vocabulary
    ids = as_ids(WORDS[20 : 20 + tokens])
    segment = Segment("", ids, "length", vocabulary, as_ids([]), EngineCost())
    return engine.score(Rate(chain, history), Ready(segment))


def counts(cost: EngineCost) -> dict[str, int]:
    names = ("prompt_tokens", "cached_tokens", "written_tokens", "rated_tokens")
    return {name: getattr(cost, name) for name in names}


def counted(engine: TransformersEngine) -> dict[str, int]:
    return {name: engine.status()[name] for name in counts(EngineCost())}


class Ends:
    """Waits in the event loop's own thread, so that no end can arrive there meanwhile."""

    def __init__(self, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._told = threading.Event()
        own = engine._thread._settle

        def settle(finished: Any) -> None:
            own(finished)
            if finished:
                self._told.set()

        monkeypatch.setattr(engine._thread, "_settle", settle)

    def wait(self) -> None:
        assert self._told.wait(60)


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("what", [WRITES, RATES])
async def test_an_end_on_its_way_from_the_thread_of_the_steps_is_told(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, what: str, heard: bool
) -> None:
    engine = opened()
    async with quiet(engine):
        before, ends = counted(engine), Ends(engine, monkeypatch)
        under_way = request(engine, what)
        await asyncio.sleep(0)  # it is sent to the thread
        ends.wait()
        if heard:  # the loop hears of the end first, and the request's task goes on after that
            asyncio.get_running_loop().call_soon(under_way.cancel)
        else:
            under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        told = counts(await engine.abort({"cut": 0}))
        assert told == {name: after - before[name] for name, after in counted(engine).items()}
        assert told["written_tokens" if what == WRITES else "rated_tokens"] > 0
        assert await engine.abort({"cut": 0}) == EngineCost()


@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize("what", [WRITES, RATES])
async def test_a_result_that_nobody_took_is_told(
    opened: Opened, what: str, remembered: bool
) -> None:
    engine = opened()
    async with quiet(engine):
        if remembered:
            await request(engine, what, chain="before")
        before = counted(engine)
        task = request(engine, what)
        assert isinstance(task, asyncio.Task)
        await asyncio.wait([task])
        told = counts(await engine.abort({"cut": 0}))
        assert told == {name: after - before[name] for name, after in counted(engine).items()}
        assert told["written_tokens" if what == WRITES else "rated_tokens"] > 0
        assert await engine.abort({"cut": 0}) == EngineCost()


async def test_results_that_were_received_are_not_told(opened: Opened) -> None:
    engine = opened()
    async with quiet(engine):
        await request(engine, WRITES)
        await request(engine, RATES)
        received = counted(engine)
        last = request(engine, WRITES, tokens=4)
        assert isinstance(last, asyncio.Task)
        await asyncio.wait([last])
        told = counts(await engine.abort({"cut": 2, "never heard of": 0}))
        assert told == {name: after - received[name] for name, after in counted(engine).items()}


async def test_a_failed_request_costs_nothing(opened: Opened) -> None:
    engine = opened(kv_tokens=30)
    async with quiet(engine):
        with pytest.raises(EngineError):
            await request(engine, WRITES, tokens=25)
        assert await engine.abort({"cut": 0}) == EngineCost()


async def test_an_abort_that_overtakes_the_cancelling_ends_the_chain_all_the_same(
    opened: Opened,
) -> None:
    """Its requests fail, whoever waits for them, and those that come later are refused."""
    engine = opened()
    async with quiet(engine):
        before = counted(engine)
        under_way = request(engine, WRITES, tokens=200)
        await request(engine, WRITES, chain="other", tokens=2)
        told = counts(await engine.abort({"cut": 0}))
        for late in (under_way, request(engine, WRITES), request(engine, RATES)):
            with pytest.raises(EngineError, match="abort"):
                await late
        other = counts(await engine.abort({"other": 0}))
        after = counted(engine)
        assert {name: told[name] + other[name] for name in told} == {
            name: after[name] - before[name] for name in told
        }
        assert 0 < told["written_tokens"] < 200


async def test_who_waits_for_another_s_score_is_not_waited_for(opened: Opened) -> None:
    engine = opened()
    async with quiet(engine):
        await request(engine, WRITES, chain="first", tokens=1)  # its prefix is cached
        computing = request(engine, RATES, chain="other")
        waiting = request(engine, RATES)
        await asyncio.sleep(0)
        assert await engine.abort({"cut": 0}) == EngineCost()
        assert isinstance(waiting, asyncio.Task)
        assert waiting.done()
        assert len((await computing).ids) == 6
