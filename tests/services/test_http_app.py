"""The HTTP routes over scripted engines: replies, errors in OpenAI's shape, disconnects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from atts_core.engine import Generate, Line, ScriptedEngine
from atts_core.errors import EngineUnavailable
from atts_core.types import Ids, Message
from services.http_app import create_app
from services.streaming import follow
from tests.services.conftest import ANSWER, backend, client

QUESTION = [{"role": "user", "content": "What is 1 + 1?"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "atts", "messages": QUESTION, "atts": {"candidates": 3, "seed": 1}} | fields


async def post(http: httpx.AsyncClient, content: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=content)


async def test_a_question_is_answered_in_openai_s_shape() -> None:
    async with client(backend()) as http:
        response = await post(http, body())
    reply = response.json()
    assert response.status_code == 200
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "atts"
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == r"The result is \boxed{2}."
    assert choice["message"]["reasoning_content"] == "1 + 1 = 2"
    assert choice["finish_reason"] == "stop"
    assert reply["usage"]["total_tokens"] == (
        reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]
    )


async def test_the_atts_object_says_what_the_answer_rests_on() -> None:
    async with client(backend()) as http:
        atts = (await post(http, body())).json()["atts"]
    assert (atts["answer"], atts["agreement"], atts["seed"]) == ("2", 1.0, 1)
    ended = atts["candidates"]
    assert ended["finished"] + ended["cancelled"] + ended["failed"] == ended["started"] == 3
    rate = atts["takeover_rate"]
    assert rate["nominal"] == 0.4
    assert rate["realised"] == rate["rejected"] / rate["decisions"]
    assert rate["takeovers"] <= rate["rejected"]
    assert atts["calibration"]["bank_size"] == rate["decisions"] - 1
    tokens = atts["tokens"]
    assert tokens["target"]["scored"] == len(ANSWER) * rate["decisions"]
    assert atts["seconds"]["total"] > 0
    assert {"draft", "score"} <= set(atts["seconds"]["candidates"])


async def test_a_budget_of_takeovers_is_a_rate() -> None:
    async with client(backend()) as http:
        asked = body(atts={"candidates": 8, "takeover_budget": 2})
        atts = (await post(http, asked)).json()["atts"]
    assert atts["takeover_rate"]["nominal"] == 0.25


async def test_the_same_seed_gives_the_same_answer_over_http() -> None:
    def draft(seen: str, request: Generate) -> str:
        return rf"\boxed{{{request.seed % 5}}}"

    async def ask(seed: int) -> dict[str, Any]:
        async with client(backend(draft)) as http:
            atts = (await post(http, body(atts={"candidates": 5, "seed": seed}))).json()["atts"]
        return {key: atts[key] for key in ("answer", "votes", "takeover_rate")}

    assert await ask(3) == await ask(3)
    assert await ask(3) != await ask(4)


async def test_models_are_listed_with_the_policies_they_name() -> None:
    async with client(backend()) as http:
        listed = (await http.get("/v1/models")).json()
    assert [m["id"] for m in listed["data"]] == [
        "atts",
        "atts:atts-sync",
        "atts:random-takeover",
        "atts:draft-only",
        "atts:target-only",
        "atts:self-consistency",
        "atts:best-of-n",
        "atts:specreason",
        "atts:speculative-thinking",
        "atts:deepconf-online",
    ]


@pytest.mark.parametrize("model", ["atts:draft-only", "atts:target-only"])
async def test_a_model_s_name_chooses_the_policy(model: str) -> None:
    async with client(backend()) as http:
        atts = (await post(http, body(model=model))).json()["atts"]
    assert atts["policy"] == model.removeprefix("atts:")
    assert atts["takeover_rate"]["realised"] is None


async def test_a_policy_brings_its_own_aggregation_unless_the_request_has_one() -> None:
    async with client(backend(method={"aggregation": "first"})) as http:

        async def aggregation(**asked: Any) -> str:
            return str((await post(http, body(**asked))).json()["atts"]["aggregation"])

        assert await aggregation(model="atts") == "first"
        assert await aggregation(model="atts:best-of-n") == "best"
        assert await aggregation(atts={"policy": "best-of-n"}) == "best"
        assert await aggregation(model="atts:best-of-n", atts={"aggregation": "majority"}) == (
            "majority"
        )


async def test_a_policy_that_the_models_cannot_serve_is_a_bad_request_that_says_why() -> None:
    async with client(backend()) as http:
        response = await post(http, body(model="atts:specreason"))
        streamed = await post(http, body(model="atts:specreason", stream=True))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "atts.policy")
    assert error["code"] == "policy_unavailable"
    assert "asked for the grade of a right step, target says" in error["message"]
    assert streamed.status_code == 400


async def test_one_model_is_described_and_an_unknown_one_is_not_found() -> None:
    async with client(backend()) as http:
        assert (await http.get("/v1/models/atts:draft-only")).json()["id"] == "atts:draft-only"
        missing = await http.get("/v1/models/gpt")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        version = (await http.get("/version")).json()
        assert version["version"] == "0.1.0"
        assert version["method"]["policy"] == "atts"


def each_its_own(seen: str, request: Generate) -> str:
    """Two candidates of three agree."""
    return rf"\boxed{{{'7' if request.chain.endswith('/1') else '5'}}}"


async def test_n_gives_the_best_distinct_answers_best_first() -> None:
    async with client(backend(each_its_own, each_its_own)) as http:
        asked = body(n=2, atts={"candidates": 3, "consensus": False})
        reply = (await post(http, asked)).json()
    said = [choice["message"]["content"] for choice in reply["choices"]]
    assert said == [r"\boxed{5}", r"\boxed{7}"]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]


async def test_where_all_agree_there_is_one_choice_whatever_n() -> None:
    async with client(backend()) as http:
        reply = (await post(http, body(n=3))).json()
    assert len(reply["choices"]) == 1


@pytest.mark.parametrize(("effort", "started"), [("low", 2), ("medium", 3), ("high", 9)])
async def test_effort_chooses_how_many_candidates(effort: str, started: int) -> None:
    served = backend(
        method={"candidates": 3}, efforts={"low": {"candidates": 2}, "high": {"candidates": 9}}
    )
    async with client(served) as http:
        atts = (await post(http, body(reasoning_effort=effort, atts={"seed": 1}))).json()["atts"]
    assert atts["candidates"]["started"] == started


async def test_the_atts_object_overrides_the_effort() -> None:
    async with client(backend()) as http:
        asked = body(reasoning_effort="low", atts={"candidates": 5})
        assert (await post(http, asked)).json()["atts"]["candidates"]["started"] == 5


async def test_the_reply_says_why_the_run_stopped_and_how_it_was_counted() -> None:
    async with client(backend()) as http:
        asked = body(atts={"candidates": 6, "stop_after": 1, "aggregation": "first"})
        atts = (await post(http, asked)).json()["atts"]
    assert (atts["stopped"], atts["aggregation"]) == ("count", "first")
    assert sum(len(vote["candidates"]) for vote in atts["votes"]) >= 1
    assert all(0 < vote["weight"] <= len(vote["candidates"]) for vote in atts["votes"])


async def test_health_and_readiness_answer() -> None:
    async with client(backend()) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/ready")).status_code == 200


async def test_a_question_nobody_can_answer_gets_a_reply_with_its_low_agreement() -> None:
    lost = backend(*[lambda seen, request: Line("hm", "eos")] * 2)
    async with client(lost) as http:
        response = await post(http, body())
    reply = response.json()
    assert response.status_code == 200
    assert (reply["atts"]["answer"], reply["atts"]["agreement"]) == (None, 0.0)
    assert reply["choices"][0]["message"]["content"]


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "status", "param", "says"),
    [
        ({"messages": []}, 400, "messages", "at least 1"),
        ({"messages": None}, 400, "messages", "found None"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "messages.0.content", "empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role", "'tool'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "messages.0.role", "user"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages.0.content.0.type",
            "image_url",
        ),
        ({"model": "gpt"}, 404, "model", "served are: atts"),
        ({"model": "atts:magic"}, 404, "model", "atts:target-only"),
        ({"model": 5}, 400, "model", "found 5"),
        ({"atts": {"takeover_rate": 1.0}}, 400, "atts.takeover_rate", "> 0 and < 1"),
        ({"atts": {"takeover_rate": 0}}, 400, "atts.takeover_rate", "found 0"),
        ({"atts": {"takeover_rate": "x"}}, 400, "atts.takeover_rate", "found 'x'"),
        ({"atts": {"candidates": 0}}, 400, "atts.candidates", "≥ 1"),
        ({"atts": {"candidates": 65}}, 400, "atts.candidates", "1 to 64"),
        ({"atts": {"turns": 65}}, 400, "atts.turns", "1 to 64"),
        ({"atts": {"draft_tokens": 5000}}, 400, "atts.draft_tokens", "1 to 4096"),
        ({"atts": {"candidate": 3}}, 400, "atts.candidate", "did you mean 'candidates'"),
        ({"atts": {"policy": "magic"}}, 400, "atts.policy", "target-only"),
        ({"atts": {"coverage": "magic"}}, 400, "atts.coverage", "marginal"),
        ({"atts": {"takeover_budget": 16}}, 400, "atts.takeover_budget", "less than the 16"),
        (
            {"atts": {"takeover_budget": 2, "takeover_rate": 0.4}},
            400,
            "atts.takeover_budget",
            "beside atts.takeover_rate",
        ),
        ({"atts": 5}, 400, "atts", "found 5"),
        ({"temperature": 3}, 400, "temperature", "≥ 0 and ≤ 2"),
        ({"tools": [{}]}, 400, "tools", "not supported"),
        ({"n": 4}, 400, "n", "found 4"),
        ({"n": 0}, 400, "n", "≥ 1"),
        ({"reasoning_effort": "huge"}, 400, "reasoning_effort", "found 'huge'"),
        ({"atts": {"confidence": 0.5}}, 400, "atts.confidence", "> 0.5 and < 1"),
        ({"atts": {"aggregation": "mean"}}, 400, "atts.aggregation", "'weighted'"),
        ({"atts": {"deadline_ms": 0}}, 400, "atts.deadline_ms", "≥ 1"),
        ({"colour": "red"}, 400, "colour", "unknown"),
    ],
)
async def test_a_bad_field_is_named_in_openai_s_shape(
    change: dict[str, Any], status: int, param: str, says: str
) -> None:
    async with client(backend()) as http:
        response = await post(http, body(**change))
    error = response.json()["error"]
    assert response.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"model": NaN}'])
async def test_a_body_that_is_no_request_is_refused(raw: bytes) -> None:
    async with client(backend()) as http:
        response = await http.post(
            "/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
        )
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_fields_that_change_no_answer_are_accepted() -> None:
    async with client(backend()) as http:
        assert (await post(http, body(user="me", metadata={"a": "b"}))).status_code == 200


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_the_limit_is_refused(announced: bool) -> None:
    content = json.dumps(body(user="x" * 5000)).encode()

    async def trickled() -> Any:
        for at in range(0, len(content), 1000):
            yield content[at : at + 1000]

    async with client(backend(limits={"max_body_bytes": 2000})) as http:
        response = await http.post(
            "/v1/chat/completions",
            content=content if announced else trickled(),
            headers={"content-type": "application/json"},
        )
    assert response.status_code == 413
    assert "2000" in response.json()["error"]["message"]


async def test_a_prompt_longer_than_the_context_is_refused() -> None:
    long = [{"role": "user", "content": "x" * 200_000}]
    async with client(backend()) as http:
        response = await post(http, body(messages=long))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"


async def test_an_unknown_path_has_openai_s_error_too() -> None:
    async with client(backend()) as http:
        response = await http.get("/v1/nothing")
    assert response.status_code == 404
    assert "/v1/nothing" in response.json()["error"]["message"]


async def test_when_every_candidate_fails_the_client_may_try_again() -> None:
    def broken(seen: str, request: Generate) -> str:
        raise EngineUnavailable("the replica was lost")

    async with client(backend(broken)) as http:
        response = await post(http, body())
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "the replica was lost" in response.json()["error"]["message"]


async def test_beyond_the_running_limit_a_question_is_refused_at_once() -> None:
    slow = backend(lambda seen, request: Line(ANSWER, ticks=500), limits={"max_running": 1})
    async with client(slow) as http:
        first = asyncio.create_task(post(http, body()))
        while not slow.service.running:
            await asyncio.sleep(0)
        second = await post(http, body())
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert (await first).status_code == 200


# ------------------------------------------------------------------------------- streaming


async def test_a_stream_ends_with_the_answer_and_done() -> None:
    async with client(backend()) as http:
        response = await post(http, body(stream=True, stream_options={"include_usage": True}))
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(d.get("content", "") for d in deltas) == r"The result is \boxed{2}."
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert chunks[-2]["atts"]["answer"] == "2"


async def test_events_stream_as_chunks_without_choices() -> None:
    asked = body(stream=True, atts={"candidates": 2, "seed": 1, "events": True})
    async with client(backend()) as http:
        response = await post(http, asked)
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    events = [c["atts"]["event"] for c in map(json.loads, lines[:-1]) if not c["choices"]]
    assert events[0] == "RunStarted"
    assert {"SegmentDrafted", "SegmentScored", "Decided", "CandidateFinished"} <= set(events)
    assert events[-1] == "AnswerReady"


async def test_a_stream_that_fails_at_once_has_its_own_status() -> None:
    async with client(backend()) as http:
        response = await post(http, body(stream=True, model="gpt"))
    assert response.status_code == 404


async def test_a_failure_in_the_middle_of_a_stream_is_said_in_it() -> None:
    def broken(seen: str, request: Generate) -> str:
        raise EngineUnavailable("the replica was lost")

    async with client(backend(broken)) as http:
        asked = body(stream=True, atts={"candidates": 1, "events": True})
        response = await post(http, asked)
    last = response.text.strip().split("\n\n")[-1]
    assert "the replica was lost" in json.loads(last.removeprefix("data: "))["error"]["message"]
    assert "[DONE]" not in response.text


async def test_a_fault_of_ours_in_the_middle_of_a_stream_is_said_in_it_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def faulty(seen: str, request: Generate) -> str:
        raise ZeroDivisionError("a secret of the server")

    async with client(backend(faulty)) as http:
        response = await post(http, body(stream=True))
    last = json.loads(response.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert (response.status_code, last["error"]["code"]) == (200, "internal_error")
    assert "secret" not in response.text
    assert "[DONE]" not in response.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_fault_of_ours_is_an_internal_error_in_openai_s_shape() -> None:
    def faulty(seen: str, request: Generate) -> str:
        raise ZeroDivisionError("a secret of the server")

    application = httpx.ASGITransport(create_app(backend(faulty)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=application, base_url="http://atts") as http:
        response = await post(http, body())
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text


# ------------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("stream", [False, True])
async def test_at_the_deadline_the_best_answer_by_then_is_sent_and_the_engines_are_idle(
    stream: bool,
) -> None:
    def draft(seen: str, request: Generate) -> Line:
        return Line(r"\boxed{2}") if request.chain.endswith("/0") else Line("hm ", ticks=10**9)

    slow = backend(draft)
    asked = {"candidates": 3, "consensus": False, "deadline_ms": 100, "takeover_rate": 1e-6}
    async with client(slow) as http:
        response = await post(http, body(stream=stream, atts=asked))
        assert slow.service.draft.running == slow.service.target.running == []
        assert not slow.service.running
    if stream:
        *chunks, done = response.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        atts = json.loads(chunks[-1].removeprefix("data: "))["atts"]
    else:
        atts = response.json()["atts"]
    assert (atts["stopped"], atts["answer"]) == ("deadline", "2")
    assert atts["candidates"]["cancelled"] == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_that_passes_before_any_chain_has_a_status_of_its_own(
    stream: bool,
) -> None:
    class NeverRenders(ScriptedEngine):
        async def render(self, messages: Sequence[Message]) -> Ids:
            await asyncio.Event().wait()
            raise AssertionError("never reached")

    busy = backend()
    busy.service.target = NeverRenders(lambda seen, request: ANSWER, name="target")
    async with client(busy) as http:
        asked = {"candidates": 2, "deadline_ms": 50}
        response = await post(http, body(stream=stream, atts=asked))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (504, "deadline_passed")
    assert error["param"] == "atts.deadline_ms"
    assert response.headers["x-should-retry"] == "false"


# ------------------------------------------------------------------------------ stop strings


@pytest.mark.parametrize("stop", ["END", ["nowhere", "END"]])
async def test_the_answer_ends_before_a_stop_string(stop: Any) -> None:
    said = backend(*[lambda seen, request: "So it is 2. END of it."] * 2)
    async with client(said) as http:
        (choice,) = (await post(http, body(stop=stop))).json()["choices"]
    assert choice["message"]["content"] == "So it is 2."
    assert choice["finish_reason"] == "stop"


async def test_a_stream_never_shows_a_stop_string() -> None:
    def draft(seen: str, request: Generate) -> str:
        return "D of it." if seen.endswith("EN") else "So it is 2. EN"

    asked = body(stop="END", stream=True, atts={"candidates": 2, "takeover_rate": 1e-9})
    async with client(backend(draft)) as http:
        response = await post(http, asked)
    deltas = [
        choice["delta"]
        for line in response.text.split("\n\n")[:-2]
        for choice in json.loads(line.removeprefix("data: "))["choices"]
    ]
    shown = "".join(d.get("reasoning_content", "") + d.get("content", "") for d in deltas)
    assert "So it is 2." in shown
    assert "EN" not in shown


# ----------------------------------------------------------------------------- text completions


async def complete(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    asked = {"model": "atts", "prompt": "What is 1 + 1?", "atts": {"candidates": 3, "seed": 1}}
    return await http.post("/v1/completions", json=asked | fields)


async def test_a_prompt_is_completed_with_the_winning_chain() -> None:
    async with client(backend()) as http:
        reply = (await complete(http, atts={"candidates": 3, "takeover_rate": 1e-9})).json()
    assert (reply["object"], reply["id"][:5]) == ("text_completion", "cmpl-")
    assert reply["choices"][0]["text"] == ANSWER
    assert reply["atts"]["answer"] == "2"
    assert reply["usage"]["completion_tokens"] >= len(ANSWER)


async def test_a_completion_s_n_is_of_distinct_answers_too() -> None:
    async with client(backend(each_its_own, each_its_own)) as http:
        asked = {"candidates": 3, "consensus": False, "takeover_rate": 1e-9}
        reply = (await complete(http, n=2, atts=asked)).json()
    assert [choice["text"] for choice in reply["choices"]] == [r"\boxed{5}", r"\boxed{7}"]


async def test_a_completion_streams_events_before_its_text() -> None:
    asked = {"candidates": 2, "events": True, "takeover_rate": 1e-9}
    async with client(backend()) as http:
        response = await complete(http, stream=True, atts=asked)
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = list(map(json.loads, lines[:-1]))
    texts = [choice["text"] for chunk in chunks for choice in chunk["choices"]]
    assert texts == ["", ANSWER]
    assert "SegmentDrafted" in [c["atts"]["event"] for c in chunks if not c["choices"]]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"model": "gpt"}, "model"),
    ],
)
async def test_a_bad_field_of_a_completion_is_named(change: dict[str, Any], param: str) -> None:
    async with client(backend()) as http:
        response = await complete(http, **change)
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


# ----------------------------------------------------------------------------- disconnects


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_stops_the_work(listening: Any, stream: bool) -> None:
    endless = backend(lambda seen, request: Line("hm ", ticks=10**9))
    async with listening(endless) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        asked = body(stream=stream, atts={"candidates": 4})
        asking = asyncio.create_task(post(http, asked))
        draft = endless.service.draft
        while len(draft.running) < 4:
            await asyncio.sleep(0.01)
        asking.cancel()
        async with asyncio.timeout(1):
            while draft.running or endless.service.running:
                await asyncio.sleep(0.01)
        assert draft.aborted == 4


async def test_a_stream_tells_the_leader_s_chain_before_the_end_and_the_answer_last() -> None:
    written = ["one\n\n", "two\n\n", r"The result is \boxed{2}."]

    def draft(seen: str, request: Generate) -> str:
        return written[seen.partition("<assistant>")[2].count("\n\n")]

    async with client(backend(draft)) as http:
        asked = body(stream=True, atts={"candidates": 2, "takeover_rate": 1e-6})
        response = await post(http, asked)
    deltas = [
        choice["delta"]
        for line in response.text.split("\n\n")[:-2]
        for choice in json.loads(line.removeprefix("data: "))["choices"]
    ]
    assert "".join(d.get("reasoning_content", "") for d in deltas).split() == ["one", "two"]
    assert [d["content"] for d in deltas if d.get("content")] == [r"The result is \boxed{2}."]
    kinds = [next(iter(d), "") for d in deltas]
    assert kinds.index("content", 1) > max(i for i, k in enumerate(kinds) if "reasoning" in k)


async def test_a_silent_run_keeps_its_stream_alive() -> None:
    release = asyncio.Event()

    async def answer(emit: Any) -> Any:
        await release.wait()
        raise EngineUnavailable("gone")

    run = follow(answer, silence=0.01)
    assert await anext(run) == []
    release.set()
    with pytest.raises(EngineUnavailable):
        await anext(run)
