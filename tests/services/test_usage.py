"""What a reply says it cost is what the engines counted, to the token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import pytest

from atts_core.engine import Generate, Line
from atts_core.errors import EngineUnavailable
from atts_core.usage import Waste
from services import serve_config
from services.local import LocalBackend, local_backend
from tests.services.conftest import backend, client

QUESTION = "Start with 47. Add 38. Multiply by 3. Subtract 17. Multiply by 2. What is the result?"


def body(content: str = QUESTION, **atts: Any) -> dict[str, Any]:
    asked = {"candidates": 6, "seed": 1, "start": "all"} | atts
    return {"model": "atts", "messages": [{"role": "user", "content": content}], "atts": asked}


async def ask(http: httpx.AsyncClient, asked: dict[str, Any]) -> dict[str, Any]:
    response = await http.post("/v1/chat/completions", json=asked)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


@pytest.fixture
async def embedded() -> AsyncIterator[LocalBackend]:
    """The pair that ships, in this process."""
    async with local_backend(serve_config.load(serve_config.LOCAL).settings) as pair:
        yield pair


def counted(pair: LocalBackend) -> dict[str, dict[str, int]]:
    """Each engine's own totals, under the names of a reply."""
    names = {
        "generated": "written_tokens",
        "scored": "rated_tokens",
        "prompt": "prompt_tokens",
        "cached": "cached_tokens",
        "aborted": "aborted_tokens",
    }
    return {
        which: {ours: engine.status()[theirs] for ours, theirs in names.items()}  # type: ignore[attr-defined]
        for which, engine in (("draft", pair.service.draft), ("target", pair.service.target))
    }


@pytest.mark.parametrize(
    "method",
    [
        {},
        {"on_rejection": "replace"},
        {"policy": "target-only"},
        {"policy": "draft-only"},
        {"draft_tokens": 7, "target_tokens": 5, "takeover_rate": 0.8},
    ],
    ids=str,
)
async def test_a_run_s_tokens_are_the_engines_own(
    embedded: LocalBackend, method: dict[str, Any]
) -> None:
    before = counted(embedded)
    async with client(embedded) as http:
        reply = await ask(http, body(consensus=False, **method))
    after = counted(embedded)
    tokens = reply["atts"]["tokens"]
    for model in ("draft", "target"):
        for name in ("generated", "scored", "prompt", "cached"):
            spent = after[model][name] - before[model][name]
            assert tokens[model][name] == spent, (model, name)
    generated = sum(tokens[model]["generated"] for model in ("draft", "target"))
    assert reply["usage"]["completion_tokens"] == generated > 0


@pytest.mark.parametrize(
    "method",
    [
        {"stop_after": 1, "candidates": 24},
        {"stop_after": 3},
        {"consensus": True},
        {"confidence": 0.8},
        {"deadline_ms": 300, "candidates": 24},
        {"stop_after": 2, "policy": "target-only"},
        {"stop_after": 2, "policy": "best-of-n"},
        {"stop_after": 2, "policy": "speculative-thinking"},
    ],
    ids=str,
)
async def test_what_cancelled_chains_had_cost_is_counted(
    embedded: LocalBackend, method: dict[str, Any]
) -> None:
    """What is under way when its chain is cancelled, or has just ended, reaches nobody."""
    cancelled = wasted = 0
    for seed in range(6):
        before = counted(embedded)
        async with client(embedded) as http:
            reply = await ask(http, body(**{"candidates": 12, "seed": seed} | method))
        after = counted(embedded)
        cancelled += reply["atts"]["candidates"]["cancelled"]
        tokens = reply["atts"]["tokens"]
        for model in ("draft", "target"):
            spent = {name: after[model][name] - before[model][name] for name in after[model]}
            aborted = spent.pop("aborted")
            assert {name: tokens[model][name] for name in spent} == spent, (seed, model)
            assert tokens[model]["wasted"]["cancelled"] >= aborted
            wasted += tokens[model]["wasted"]["cancelled"]
    assert cancelled > 0
    assert wasted > 0


async def test_the_question_s_cached_tokens_are_those_of_a_question_asked_before(
    embedded: LocalBackend,
) -> None:
    async with client(embedded) as http:
        first = (await ask(http, body(candidates=2)))["usage"]
        second = (await ask(http, body(candidates=2)))["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] < second["prompt_tokens"]
    assert second["prompt_tokens_details"]["cached_tokens"] >= second["prompt_tokens"] - 1


# ------------------------------------------------------------------------------ wasted tokens


async def wasted(asked: dict[str, Any], *engines: Any, **settings: Any) -> dict[str, Any]:
    """Wasted tokens by model; a scripted token is a character."""
    async with client(backend(*engines, **settings)) as http:
        tokens = (await ask(http, asked))["atts"]["tokens"]
    return {model: tokens[model]["wasted"] for model in ("draft", "target")}


NOTHING = dict.fromkeys(get_args(Waste), 0)


async def test_nothing_is_wasted_where_all_chains_vote() -> None:
    assert await wasted(body(consensus=False)) == {"draft": NOTHING, "target": NOTHING}


async def test_a_cancelled_chain_s_tokens_are_wasted() -> None:
    def draft(seen: str, request: Generate) -> Line:
        first = request.chain.endswith("/0")
        return Line(r"\boxed{2}", ticks=30) if first else Line("hm", ticks=1)

    found = await wasted(body(candidates=2, stop_after=1, takeover_rate=1e-9), draft)
    assert found["draft"]["cancelled"] > 0
    assert found["draft"] == NOTHING | {"cancelled": found["draft"]["cancelled"]}


async def test_a_failed_chain_s_tokens_are_wasted() -> None:
    def draft(seen: str, request: Generate) -> str:
        if not request.chain.endswith("/0"):
            return r"\boxed{2}"
        if seen.endswith("hm"):
            raise EngineUnavailable("the replica was lost")
        return "hm"

    asked = body(candidates=2, consensus=False, takeover_rate=1e-9)
    assert (await wasted(asked, draft))["draft"] == NOTHING | {"failed": 2}


async def test_a_replaced_segment_s_tokens_are_wasted() -> None:
    asked = body(candidates=2, on_rejection="replace", takeover_rate=1 - 1e-9, consensus=False)
    found = await wasted(asked, lambda seen, request: "wrong")
    assert found["draft"] == NOTHING | {"replaced": 2 * len("wrong")}


async def test_a_warm_up_s_tokens_are_wasted() -> None:
    asked = body(candidates=2, consensus=False)
    found = await wasted(asked, calibration={"presample": True, "coverage": "conditional"})
    assert found["draft"]["presampled"] > 0
