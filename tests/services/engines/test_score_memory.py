"""What was rated once is known, and never waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from atts_core.engine import Pending, Rate, Ready
from atts_core.errors import EngineError
from atts_core.types import EngineCost, History, Ids, Scored, Segment, as_ids
from services.engines.score_memory import _BESIDES, LogProbs, ScoreMemory
from services.engines.transformers_engine import TransformersEngine

Opened = Callable[..., TransformersEngine]
WORDS = [int(i) for i in np.random.default_rng(5).integers(5, 200, 60)]


def rating(engine: TransformersEngine, chain: str, history: int, end: int) -> Pending[Scored]:
    """Rate `WORDS[history:end]` behind what stands before them."""
    ids = as_ids(WORDS[history:end])
    segment = Segment("", ids, "length", engine.capabilities.vocabulary, as_ids([]), EngineCost())
    return engine.score(Rate(chain, History(as_ids(WORDS[:history]))), Ready(segment))


class Gate:
    """Before which an engine's own scores wait; `asked` are the chains that came to it."""

    def __init__(self, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        self.asked: list[str] = []
        own = engine._logprobs

        async def waits(chain: str, ids: Ids, begin: int) -> tuple[LogProbs, EngineCost]:
            self.asked.append(chain)
            self.reached.set()
            await self.opened.wait()
            return await own(chain, ids, begin)

        monkeypatch.setattr(engine, "_logprobs", waits)


def numbers(*values: float) -> LogProbs:
    return np.array(values, np.float32)


def test_a_segment_is_known_by_its_text_and_where_it_begins() -> None:
    key = ScoreMemory.key(as_ids(WORDS), 20)
    assert key == ScoreMemory.key(as_ids(WORDS), 20)
    assert key not in (
        ScoreMemory.key(as_ids(WORDS), 21),
        ScoreMemory.key(as_ids(WORDS[:-1]), 20),
        ScoreMemory.key(as_ids([6, *WORDS[1:]]), 20),
    )


async def test_the_longest_unused_is_forgotten_first_and_the_bound_holds() -> None:
    memory = ScoreMemory(kept=2 * (_BESIDES + 2))
    memory.keep(b"a", numbers(-1, -2))
    memory.keep(b"b", numbers(-3, -4))
    assert await memory.recall(b"a", 9) is not None
    memory.keep(b"c", numbers(-5, -6))
    assert await memory.recall(b"b", 9) is None
    assert await memory.recall(b"a", 9) is not None
    assert await memory.recall(b"c", 9) is not None
    memory.keep(b"long", numbers(*range(4)))
    assert await memory.recall(b"a", 9) is None
    assert memory._size == sum(len(known) + _BESIDES for known in memory._known.values())


async def test_what_is_known_is_shared_and_cannot_be_written_to() -> None:
    memory = ScoreMemory()
    memory.keep(b"a", numbers(-1))
    known = await memory.recall(b"a", 1)
    assert known is not None
    with pytest.raises(ValueError, match="read-only"):
        known[0] = 0


async def test_chains_that_take_the_same_step_have_it_computed_once(opened: Opened) -> None:
    engine = opened()
    first, *others = await asyncio.gather(
        *(rating(engine, chain, 30, 40) for chain in ("one", "two", "three"))
    )
    later = await rating(engine, "four", 30, 40)
    for again in (*others, later):
        assert again.logprobs.tolist() == first.logprobs.tolist()
        assert again.cost.cached_tokens == again.cost.prompt_tokens == 40
        assert again.cost.busy == 0
    status = engine.status()
    assert engine._steps.counters.rated_tokens == 10
    assert (status["rated_tokens"], status["remembered_tokens"]) == (40, 30)
    assert status["prompt_tokens"] == 4 * 40
    assert status["hit_rate"] == status["cached_tokens"] / status["prompt_tokens"]


async def test_the_same_words_in_another_place_are_computed(opened: Opened) -> None:
    engine = opened()
    whole = await rating(engine, "one", 30, 40)
    part = await rating(engine, "two", 32, 40)
    assert engine.status()["remembered_tokens"] == 0
    assert np.abs(part.logprobs - whole.logprobs[2:]).max() < 1e-4


async def test_who_waits_computes_where_the_first_is_cancelled(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened()
    gate = Gate(engine, monkeypatch)
    first = rating(engine, "first", 30, 40)
    others = [rating(engine, chain, 30, 40) for chain in ("second", "third")]
    await gate.reached.wait()
    first.cancel()
    gate.opened.set()
    one, other = await asyncio.gather(*others)
    assert gate.asked == ["first", "second"]
    assert one.logprobs.tolist() == other.logprobs.tolist()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_waits_may_leave_without_harm(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened()
    gate = Gate(engine, monkeypatch)
    first, leaving = rating(engine, "first", 30, 40), rating(engine, "leaving", 30, 40)
    await gate.reached.wait()
    leaving.cancel()
    gate.opened.set()
    assert len((await first).logprobs) == 10
    assert (await rating(engine, "later", 30, 40)).cost.cached_tokens == 40
    assert gate.asked == ["first"]


async def test_a_failure_is_not_remembered_and_fails_who_waits_by_itself(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened()
    right, asked = engine._logprobs, []

    async def fails(chain: str, ids: object, begin: int) -> object:
        asked.append(chain)
        await asyncio.sleep(0)
        raise EngineError(f"{chain}: out of order")

    monkeypatch.setattr(engine, "_logprobs", fails)
    both = rating(engine, "one", 30, 40), rating(engine, "two", 30, 40)
    for pending, chain in zip(both, ("one", "two"), strict=True):
        with pytest.raises(EngineError, match=f"{chain}: out of order"):
            await pending
    assert asked == ["one", "two"]
    monkeypatch.setattr(engine, "_logprobs", right)
    assert np.isfinite((await rating(engine, "three", 30, 40)).logprobs).all()
    assert engine.status()["remembered_tokens"] == 0
