"""A router's courier: warm starts, batches, lost stores and lost acknowledgements."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from atts_core.acceptance import Gate
from atts_core.calibration.keys import Batch, PairKey, Record
from atts_core.calibration.settings import CalibrationSettings
from atts_core.errors import AttsError
from atts_core.types import Score
from services import courier as courier_module
from services.calibration_store import CalibrationStore
from services.courier import UPLOAD, Courier
from services.settings import StoreSettings
from services.store import scores
from services.store.exchange import Cursor, Exchange

PAIR = PairKey("draft", "target", "template", "mean-nll")
QUICK = StoreSettings(url="memory", refresh_seconds=0.01, timeout_seconds=30, backoff_seconds=0.02)
IMPATIENT = QUICK.model_copy(update={"timeout_seconds": 0.2})


def gate(origin: str, **settings: int) -> Gate:
    return Gate(PAIR, CalibrationSettings.model_validate(settings), origin=origin)


def decide(on: Gate, count: int) -> None:
    for n in range(count):
        on.decide(Score(nll_sum=n / 7, tokens=1), question=str(n), turn=0, coin=0.5, rate=0.4)


def size(of: Gate) -> int:
    """Scores in the bank of everything."""
    found: int = of.state()["banks"][0]["size"]
    return found


class Line:
    """The way to a store, which can be cut, lose replies, or never answer."""

    def __init__(self, store: CalibrationStore) -> None:
        self.store = store
        self.cut = self.silent = False
        self.lose_replies = 0
        self.calls = 0
        self.answered = asyncio.Event()

    async def __call__(self, batch: Batch, origin: str, cursor: Cursor | None) -> Exchange:
        self.calls += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.cut:
            raise AttsError("calibration store: the replica was lost with the request")
        got = await self.store.exchange(batch, origin, cursor)
        if self.lose_replies:
            self.lose_replies -= 1
            raise ConnectionError("reply lost")
        self.answered.set()
        return got

    async def next_answer(self) -> None:
        self.answered.clear()
        async with asyncio.timeout(30):
            await self.answered.wait()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    store = CalibrationStore(QUICK, keep=10_000)
    yield Line(store)
    store.close()


async def stored(line: Line) -> list[Record]:
    got = await line.store.exchange(Batch(PAIR, ()), "reader", None)
    found = list(got.batch.records)
    while got.more:
        got = await line.store.exchange(Batch(PAIR, ()), "reader", got.cursor)
        found += got.batch.records
    return found


async def test_a_router_that_starts_has_warm_banks_before_its_first_request(line: Line) -> None:
    first, second = gate("a"), gate("b")
    decide(first, 1_200)
    await Courier(first, line, QUICK).exchange()
    async with Courier(second, line, QUICK).running():
        assert size(second) == 1_200


async def test_two_routers_learn_from_each_other_each_score_once(line: Line) -> None:
    one, two = gate("a"), gate("b")
    async with Courier(one, line, QUICK).running(), Courier(two, line, QUICK).running():
        for _ in range(20):
            decide(one, 30)
            decide(two, 20)
            await line.next_answer()
    for late in (one, two):
        await Courier(late, line, QUICK).exchange()
    assert (size(one), size(two)) == (1_000, 1_000)
    found = await stored(line)
    assert len(found) == len(set(found)) == 1_000


async def test_a_lost_store_delays_nothing_is_said_and_gets_everything_later(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    router = gate("a")
    courier = Courier(router, line, QUICK)
    with caplog.at_level(logging.WARNING):
        async with courier.running():
            line.cut = True
            decide(router, 3 * UPLOAD + 1)
            while courier.state()["store_error"] is None:
                await asyncio.sleep(0)
            assert size(router) == 3 * UPLOAD + 1
            assert "replica was lost" in courier.state()["store_error"]
            assert courier.state()["snapshot_age_seconds"] >= 0
            line.cut = False
            calls = line.calls
            for _ in range(4):
                await line.next_answer()
            assert line.calls - calls == 4, "all batches at once, without pauses between them"
            while router.pending().records:
                await asyncio.sleep(0)
            assert courier.state()["store_error"] is None
    assert len(await stored(line)) == 3 * UPLOAD + 1
    assert caplog.text.count("no exchange with the calibration store") == 1
    assert caplog.text.count("the calibration store is back") == 1


async def test_a_lost_acknowledgement_repeats_the_upload_and_counts_once(line: Line) -> None:
    router = gate("a")
    decide(router, 50)
    line.lose_replies = 3
    async with Courier(router, line, QUICK).running():
        await line.next_answer()
    assert line.calls >= 4
    assert len(await stored(line)) == 50


async def test_a_store_that_never_answers_delays_a_start_and_an_end_by_the_timeout_at_most(
    line: Line,
) -> None:
    line.silent = True
    router = gate("a")
    courier = Courier(router, line, IMPATIENT)
    async with asyncio.timeout(10):
        async with courier.running():
            assert courier.state() == {
                "snapshot_age_seconds": None,
                "store_error": "no answer within 0.2 s",
            }
            decide(router, 10)
    assert len(router.pending().records) == 10


async def test_what_is_left_at_the_end_is_handed_over(line: Line) -> None:
    router = gate("a")
    slow = StoreSettings(url="memory", refresh_seconds=60)
    async with Courier(router, line, slow).running():
        decide(router, 2 * UPLOAD)
    assert not router.pending().records
    assert len(await stored(line)) == 2 * UPLOAD


async def test_a_reset_is_followed_and_old_scores_do_not_come_back(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    router, other = gate("a"), gate("b")
    courier, others = Courier(router, line, QUICK), Courier(other, line, QUICK)
    decide(router, 10)
    await courier.exchange()
    await others.exchange()
    assert size(other) == 10
    with line.store.database.transaction() as connection:
        scores.reset(connection, PAIR)
    decide(router, 5)
    with caplog.at_level(logging.WARNING):
        await courier.exchange()
        await others.exchange()
    assert "the calibration was reset" in caplog.text
    assert (size(router), size(other)) == (0, 0)
    decide(router, 3)
    await courier.exchange()
    await others.exchange()
    assert (size(router), size(other)) == (3, 3)


async def test_pauses_grow_with_failures_up_to_a_bound_and_differ(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.cut = True
    settings = StoreSettings(url="memory", refresh_seconds=1, backoff_seconds=8)
    courier = Courier(gate("a"), line, settings)
    pauses: list[float] = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        if len(pauses) == 40:
            enough.set()
        await sleep(0)

    monkeypatch.setattr(courier_module.asyncio, "sleep", note)
    async with courier.running():
        await enough.wait()
    # The attempt at the start has failed already: the first pause is a longer one.
    for pause, highest in zip(pauses, [2, 4] + [8] * 38, strict=False):
        assert highest / 2 <= pause <= highest
    assert len(set(pauses[2:])) > 10


async def test_scores_that_no_longer_fit_are_told_of(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.cut = True
    router = gate("a", max_outbox=10)
    with caplog.at_level(logging.ERROR):
        async with Courier(router, line, QUICK).running():
            decide(router, 25)
            calls = line.calls
            while line.calls < calls + 2:
                await asyncio.sleep(0)
    assert "scores are lost to the other routers (15 so far" in caplog.text
