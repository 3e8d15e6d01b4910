"""The scripted engine keeps what the protocol says of any engine."""

from __future__ import annotations

from atts_core.engine import Generate, Sampling, ScriptedEngine, encode_characters
from atts_core.types import History


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
