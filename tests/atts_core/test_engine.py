"""The scripted engine keeps what the protocol says of any engine."""

from __future__ import annotations

import numpy as np

from atts_core.engine import Aborted, Generate, Sampling, ScriptedEngine, encode_characters
from atts_core.types import EngineCost, History, Scored, Segment, as_ids


async def test_a_stop_id_ends_the_scripted_segment_and_is_part_of_it() -> None:
    engine = ScriptedEngine(lambda seen, request: "one, two, three")
    history = History(encode_characters("?"))
    asked = Generate("c", history, 100, Sampling(), 0, stop_ids=(ord("o"), ord(",")))
    assert (await engine.generate(asked)).text == "o"
    asked = Generate("c", history, 100, Sampling(), 0, stop_ids=(ord(","),))
    segment = await engine.generate(asked)
    assert (segment.text, segment.finish) == ("one,", "stop")
    short = Generate("c", history, 2, Sampling(), 0, stop_ids=(ord(","),))
    assert (await engine.generate(short)).finish == "length"


# ------------------------------------------------------------- what aborted chains had cost


def segment(tokens: int) -> Segment:
    ids = as_ids(list(range(tokens)))
    return Segment("", ids, "stop", "characters", as_ids([]), EngineCost(prompt_tokens=100))


def rated(tokens: int) -> Scored:
    ids = as_ids(list(range(tokens)))
    cost = EngineCost(prompt_tokens=100)
    return Scored(ids, np.zeros(tokens, np.float32), as_ids([]), cost)


def test_results_that_were_received_are_not_told_again() -> None:
    aborted = Aborted()
    for tokens in (1, 2, 4):
        aborted.finished("c", segment(tokens))
    assert aborted.take({"c": 3}) == EngineCost()


def test_the_newest_results_are_those_that_were_not_received() -> None:
    aborted = Aborted()
    aborted.finished("c", segment(1))
    aborted.finished("c", rated(2))
    aborted.finished("c", segment(4))
    aborted.finished("other", segment(8))
    told = aborted.take({"c": 1, "unheard of": 0})
    assert told == EngineCost(prompt_tokens=200, written_tokens=4, rated_tokens=2)


def test_cancelled_requests_are_told_with_the_results_and_each_once() -> None:
    aborted = Aborted()
    aborted.note("c", EngineCost(written_tokens=1))
    aborted.finished("c", segment(2))
    aborted.note("c", EngineCost(written_tokens=4))
    assert aborted.take({"c": 0}).written_tokens == 7
    assert aborted.take({"c": 0}) == EngineCost()


def test_who_has_received_more_than_is_known_is_told_nothing() -> None:
    aborted = Aborted()
    aborted.finished("c", segment(2))
    assert aborted.take({"c": 5}) == EngineCost()


def test_the_chain_that_was_heard_of_longest_ago_is_forgotten() -> None:
    aborted = Aborted()
    for number in range(Aborted.KEPT):
        aborted.finished(str(number), segment(1))
    aborted.finished("0", segment(1))
    aborted.finished("new", segment(1))
    assert aborted.take({"1": 0}) == EngineCost()
    assert aborted.take({"0": 0, "2": 0}).written_tokens == 3


def test_a_chain_that_was_closed_is_over_for_good() -> None:
    aborted = Aborted()
    aborted.finished("c", segment(1))
    assert not aborted.over("c")
    aborted.close(["c", "never began"])
    assert aborted.take({"c": 0, "never began": 0}).written_tokens == 1
    assert aborted.over("c")
    assert aborted.over("never began")
    assert not aborted.over("other")
