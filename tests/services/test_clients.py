"""The clients applications already have, over a real socket: OpenAI's own, and litellm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from atts_core.engine import Generate, Line
from atts_core.errors import EngineUnavailable
from atts_core.usage import Usage
from services.access import hashed
from services.local import LocalBackend
from tests.services.conftest import ANSWER, backend

QUESTION: Any = [{"role": "user", "content": "What is 1 + 1?"}]
ATTS = {"atts": {"candidates": 3, "seed": 1, "takeover_rate": 1e-9}}
STATEMENT = r"The result is \boxed{2}."


@pytest.fixture
async def url(listening: Any) -> AsyncIterator[str]:
    async with listening(backend()) as base:
        yield f"{base}/v1"


def client(url: str, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key="unused", **options)


def ask(llm: AsyncOpenAI, **options: Any) -> Any:
    return llm.chat.completions.create(
        **{"model": "atts", "messages": QUESTION, "extra_body": ATTS} | options
    )


async def test_the_sync_client_gets_an_answer(url: str) -> None:
    def use() -> Any:
        with OpenAI(base_url=url, api_key="unused") as llm:
            return llm.chat.completions.create(
                model="atts", messages=QUESTION, stop=["END"], extra_body=ATTS
            )

    reply = await asyncio.to_thread(use)
    assert reply.choices[0].message.content == STATEMENT
    assert reply.choices[0].message.reasoning_content == "1 + 1 = 2"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.atts["answer"] == "2"
    assert reply.usage.prompt_tokens_details.cached_tokens == 0
    assert reply.usage.completion_tokens == reply.usage.total_tokens - reply.usage.prompt_tokens


async def test_the_sync_client_streams(url: str) -> None:
    def use() -> str:
        with OpenAI(base_url=url, api_key="unused") as llm:
            chunks = llm.chat.completions.create(
                model="atts", messages=QUESTION, stream=True, extra_body=ATTS
            )
            return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    assert await asyncio.to_thread(use) == STATEMENT


async def test_a_stream_has_reasoning_content_and_usage(listening: Any) -> None:
    def draft(seen: str, request: Generate) -> str:
        return ["1 + 1 = 2\n\n", "So it is 2.\n\n", STATEMENT][
            seen.partition("<assistant>")[2].count("\n\n")
        ]

    async with listening(backend(draft)) as base, client(f"{base}/v1") as llm:
        stream = await ask(
            llm,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"atts": {"candidates": 2, "takeover_rate": 1e-9}},
        )
        chunks = [chunk async for chunk in stream]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert reasoning.split("\n\n")[:2] == ["1 + 1 = 2", "So it is 2."]
    assert "".join(delta.content or "" for delta in deltas) == STATEMENT
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_events_come_as_chunks_the_client_reads_past(url: str) -> None:
    async with client(url) as llm:
        events = {"atts": {"candidates": 2, "seed": 1, "events": True}}
        chunks = [chunk async for chunk in await ask(llm, stream=True, extra_body=events)]
    kinds = [chunk.atts["event"] for chunk in chunks if not chunk.choices]
    assert kinds[0] == "RunStarted"
    assert {"SegmentDrafted", "Decided", "CandidateFinished", "AnswerReady"} <= set(kinds)
    assert chunks[-1].atts["answer"] == "2"


async def test_text_completions_are_answered_and_streamed(url: str) -> None:
    async with client(url) as llm:
        asked: dict[str, Any] = {"model": "atts", "prompt": "What is 1 + 1?", "extra_body": ATTS}
        whole = await llm.completions.create(**asked)
        stream = await llm.completions.create(**asked, stream=True)
        streamed = "".join([c.choices[0].text async for c in stream if c.choices])
    assert whole.choices[0].text == streamed
    assert whole.choices[0].text.endswith(STATEMENT)
    assert whole.usage is not None


async def test_models_are_listed_and_described(url: str) -> None:
    async with client(url) as llm:
        names = [model.id async for model in llm.models.list()]
        assert (await llm.models.retrieve("atts:target-only")).id == "atts:target-only"
    assert names[0] == "atts"


async def test_the_raw_response_has_headers_and_status(url: str) -> None:
    async with client(url) as llm:
        raw = await llm.chat.completions.with_raw_response.create(
            model="atts", messages=QUESTION, extra_body=ATTS
        )
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].message.content == STATEMENT


# ------------------------------------------------------------------------------------ errors


async def test_bad_input_is_the_client_s_bad_request(url: str) -> None:
    async with client(url) as llm:
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(llm, extra_body={"atts": {"candidats": 3}})
        assert (caught.value.param, caught.value.code) == ("atts.candidats", "invalid_value")
        assert "did you mean 'candidates'" in str(caught.value)
        with pytest.raises(openai.BadRequestError, match="not supported"):
            await ask(llm, tools=[{"type": "function", "function": {"name": "f"}}])


async def test_an_unknown_model_is_not_found(url: str) -> None:
    async with client(url) as llm:
        with pytest.raises(openai.NotFoundError, match="served are: atts"):
            await ask(llm, model="gpt")


async def test_a_wrong_key_fails_to_authenticate(listening: Any) -> None:
    keys = [{"name": "ann", "sha256": hashed("right")}]
    async with listening(backend(access={"keys": keys})) as base, client(f"{base}/v1") as llm:
        with pytest.raises(openai.AuthenticationError):
            await ask(llm)
        assert (await ask(llm.with_options(api_key="right"))).choices


async def test_an_error_in_the_middle_of_a_stream_is_raised(listening: Any) -> None:
    def broken(seen: str, request: Generate) -> str:
        raise EngineUnavailable("the replica was lost")

    async with listening(backend(broken)) as base, client(f"{base}/v1") as llm:
        stream = await ask(llm, stream=True)
        with pytest.raises(openai.APIError, match="the replica was lost"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_question_refused_for_want_of_room_is_asked_again(
    listening: Any, retries: int
) -> None:
    """The client waits as long as `Retry-After` says."""
    full = backend(limits={"max_running": 1})
    full.service.running["another"] = Usage()
    async with listening(full) as base, client(f"{base}/v1", max_retries=retries) as llm:
        asking = asyncio.create_task(ask(llm))
        await asyncio.sleep(0.3)
        del full.service.running["another"]
        if retries:
            assert (await asking).choices
        else:
            with pytest.raises(openai.RateLimitError) as caught:
                await asking
            assert caught.value.response.headers["retry-after"] == "1"


async def test_a_client_that_times_out_stops_the_run(listening: Any) -> None:
    endless = backend(lambda seen, request: Line("hm ", ticks=10**9))
    async with listening(endless) as base, client(f"{base}/v1", max_retries=0) as llm:
        with pytest.raises(openai.APITimeoutError):
            await ask(llm, timeout=0.5)
        await idle(endless)


async def test_a_client_that_leaves_its_stream_stops_the_run(listening: Any) -> None:
    endless = backend(lambda seen, request: Line("hm ", ticks=10**9))
    async with listening(endless) as base, client(f"{base}/v1") as llm:
        stream = await ask(llm, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await idle(endless)


async def idle(served: LocalBackend) -> None:
    """Within a second nothing of any run is left."""
    async with asyncio.timeout(1):
        while served.service.running or served.service.draft.running:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)


# ----------------------------------------------------------------------------------- litellm


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is fetched
    import litellm

    return litellm


def through(url: str, **options: Any) -> dict[str, Any]:
    return {
        "model": "openai/atts",
        "api_base": url,
        "api_key": "unused",
        "messages": QUESTION,
        "extra_body": ATTS,
        "num_retries": 0,
    } | options


async def test_litellm_gets_an_answer(url: str, litellm: Any) -> None:
    reply = await litellm.acompletion(**through(url, temperature=0.5, stop=["END"]))
    assert reply.choices[0].message.content == STATEMENT
    assert reply.choices[0].message.reasoning_content == "1 + 1 = 2"
    assert reply.usage.completion_tokens > 0


async def test_litellm_streams(url: str, litellm: Any) -> None:
    stream = await litellm.acompletion(**through(url, stream=True))
    said = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(said) == STATEMENT


async def test_litellm_completes_text(url: str, litellm: Any) -> None:
    options = through(url, model="text-completion-openai/atts", prompt="What is 1 + 1?")
    del options["messages"]
    reply = await litellm.atext_completion(**options)
    assert reply.choices[0].text == ANSWER


async def test_litellm_raises_its_own_bad_request(url: str, litellm: Any) -> None:
    with pytest.raises(litellm.BadRequestError, match="did you mean 'candidates'"):
        await litellm.acompletion(**through(url, extra_body={"atts": {"candidats": 3}}))
