"""The command line's view of a run: the same from a server and from this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from atts_core.engine import Generate, Line
from services.client import local_run, remote_run
from tests.services.conftest import backend

ASKED = {
    "model": "atts",
    "messages": [{"role": "user", "content": "What is 1 + 1?"}],
    "atts": {"candidates": 3, "seed": 1, "takeover_rate": 1e-6, "consensus": False},
}


def overtaken(seen: str, request: Generate) -> Line:
    """The first chain leads, and is outvoted by the two that come later."""
    first = request.chain.endswith("/0")
    if "\n\n" not in seen:
        return Line("early\n\n" if first else "late\n\n", ticks=1 if first else 50)
    return Line(r"So \boxed{1}." if first else r"So \boxed{2}.", ticks=1 if first else 50)


async def last(run: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    async for event in run:
        assert event["event"] != "LeaderChanged"
    message: dict[str, Any] = event["completion"]["message"]
    return {name: message[name] for name in ("content", "reasoning_content")}


async def test_a_lead_that_changed_leaves_nothing_in_the_message(listening: Any) -> None:
    async with listening(backend(overtaken)) as url:
        remote = await last(remote_run(url, ASKED))
    local = await last(local_run(backend(overtaken), ASKED))
    assert remote == local == {"content": r"So \boxed{2}.", "reasoning_content": "late"}
