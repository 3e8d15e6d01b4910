"""Events on their way through JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from atts_core import scaling
from atts_core.events import AnswerReady, Decided, TakenOver, as_json, from_json
from tests.conftest import QUESTION


async def test_events_come_back_from_json_as_they_were(scripted: Callable[..., Any]) -> None:
    pair = scripted(lambda seen, request: r"so \boxed{2}")
    await scaling.answer(pair.run(candidates=8, takeover_rate=0.5), QUESTION)
    kinds = {type(event) for event in pair.events}
    assert {Decided, TakenOver, AnswerReady} <= kinds
    assert [from_json(json.loads(json.dumps(as_json(e)))) for e in pair.events] == pair.events
